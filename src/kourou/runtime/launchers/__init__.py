"""What brings a plan to life: threads, processes of this host, hosts over ssh.

Start with ``base``, which all of them implement. A launcher sees the plan only, never a program or a node; it may
use ``host_agent`` and what is below.
"""
