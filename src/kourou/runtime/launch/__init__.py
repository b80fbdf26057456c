"""A run: put together, directed by one thread, held by its user.

Start with ``launch``, ``launching`` (its steps), ``run_builder`` (with ``folder_facts``, what other shells find) and
``run``. ``director`` is a thread around a state machine, which turns events into instructions: ``decisions``.
``elastic`` checks what is asked for when nodes are to come or go. ``batch`` is what a submitted run has of its own. It
may use all of the runtime below it.
"""
