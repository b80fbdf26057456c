"""What is known of nodes, hosts and runs, as frozen data that crosses processes.

It uses nothing of the runtime's. Start with ``names`` and ``records`` (a node's state, how it ended), then
``status`` (the same of a whole run); ``inventory``, ``gpus`` and ``hosts`` are what there is to run on,
``events`` what the director is told, ``instructions`` what it wants done.
"""
