"""From the graph to a plan: everything that will be started, as data. All mistakes are found here.

Start with ``plan``, then ``compile``, ``payloads`` (pickled nodes) and ``placement`` (who runs on which host).
Pure; it may use ``graph`` and what is below.
"""
