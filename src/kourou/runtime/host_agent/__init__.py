"""What runs on another host for the launcher, and how the two speak.

Start with ``host_service`` (nodes' processes there) and ``first_messages``. Over the pipes of ssh: ``pipe_agent`` and
``pipe_wire``. Where the agent calls: ``dial_order`` (whom) and ``dialling``, over ``link`` (one connection) and
``session`` (what outlives it). ``liveness`` says when an end counts as lost; ``tunnel`` leads to the coordinator either
way. It may use ``node_process`` and what is below.
"""
