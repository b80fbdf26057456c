"""What nodes print: from their pipes to logs and terminals.

Start with ``output_pipes`` (lines of processes), then ``node_logs`` (logs, the terminal, threads' lines); ``tmux``
and ``tmux_window`` show logs in windows. It may use ``context`` and what is below.
"""
