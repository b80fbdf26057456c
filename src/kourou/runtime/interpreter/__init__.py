"""What leans on this process's Python and its signals; what reaches into CPython itself is in ``kourou.cpython``.

It uses nothing of the runtime's. Start with ``startup`` (a process made fit for the user's code, and its exit),
then ``signal_handlers`` and ``thread_interrupts`` (StopRequested in a thread); ``user_code`` calls what the user
wrote, ``stacks`` says where all threads are.
"""
