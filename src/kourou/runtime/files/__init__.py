"""What a run leaves on disk, and writing that must neither fail nor block.

It may use ``model``. Start with ``run_folder`` and ``run_info``, then ``append_file`` (a disk that is full),
``rotation`` (before it is), ``log_writer`` (both, for many logs), ``growing_file`` and ``log_file`` (reading one),
``nonblocking_stream`` (a terminal that takes nothing) and ``scratch`` (what goes with its process).
"""
