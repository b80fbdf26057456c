"""From the graph to a plan: everything that will be started, as data. All mistakes are found here.

Start with ``plan``, then ``compile``, ``validation``, ``payloads`` (pickled nodes), ``placement`` (who runs on which
host) and ``devices``; ``addition`` plans nodes for a program that runs. Pure; it may use ``graph`` and what is below.
"""
