"""The ways for frames to travel: within a process, within a host, between hosts."""
