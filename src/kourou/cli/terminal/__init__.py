"""How the commands read and print: shared arguments, exit codes, tables, durations and sizes.

Start with ``arguments``, ``output`` and ``formats``; ``rows`` are tables of many rows, ``live`` is what is drawn again
and again. It uses nothing else of the command line's.
"""
