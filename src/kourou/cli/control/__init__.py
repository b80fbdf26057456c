"""``kourou stop``, ``call`` and ``debug``: what is done to a run.

Start with ``stop_and_call``, then ``debugging``; ``script_classes`` and ``json_values`` print what nodes return. It
may use ``terminal``.
"""
