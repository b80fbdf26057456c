"""The processes of one host: started, read, limited, ended, with all that they started.

Start with ``supervisor``, then ``zygote`` (what forks them) and ``channel`` (how the two speak); ``outputs`` reads what
they print, ``memory_limit`` watches those with a limit, ``process_table`` finds what a node left behind. It may use
``control`` and what is below.
"""
