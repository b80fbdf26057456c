"""Where workers are: on this host, or on others through an agent.

Start with ``places`` and ``resolve``, then ``local``, ``remote`` (the launcher's side) and ``service`` (the
agent's). It may use ``worker``.
"""
