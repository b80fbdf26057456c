"""What runs on another host for the launcher, and how the two speak.

Start with ``host_service`` (nodes' processes there). Over the pipes of ssh: ``main`` and ``wire``. Where the agent
calls: ``dial_order`` (whom) and ``dialling``, over ``link`` (one connection) and ``session`` (what outlives it).
``tunnel`` leads to the coordinator either way. It may use ``node_process`` and what is below.
"""
