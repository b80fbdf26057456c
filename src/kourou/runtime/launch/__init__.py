"""A run: put together, directed by one thread, held by its user.

Start with ``launch``, ``launching`` (its steps), ``run_builder`` (with ``folder_facts``, what other shells find) and
``run``. ``director`` is a thread around ``state_machine``, which turns ``events`` into instructions. It keeps
``node_table`` (what is known of all nodes) with ``units`` (colocations that are only their parts), ``removals`` (of
single nodes) and ``program_stop``, and asks ``exit_records`` (how a node ended), ``held_exits`` (exits that are not
judged at once), ``slow_starts`` (who is not ready after ten seconds) and ``only_servers`` (who goes on when all work is
done). ``batch`` submits a run, ``batch_job`` is its launcher's process: ``stored_plan`` starts the agents,
``batch_launcher`` does the rest. ``elastic`` checks what is asked for when nodes are to come or go. It may use all of
the runtime but ``monitoring``.
"""
