"""What the director decides, without clock, thread, socket or launcher.

``state_machine`` turns ``model.events`` into ``model.instructions``. It keeps ``node_table`` (what is known of all
nodes: a ``tracked_node`` each, in a ``node_tree``) with ``units`` (colocations that are only their parts), ``removals``
(of single nodes), ``program_stop`` and ``timers``, and asks ``exit_records`` (how a node ended), ``held_exits`` (exits
that are not judged at once), ``slow_starts`` (who is not ready after ten seconds) and ``only_servers`` (who goes on
when all work is done).
"""
