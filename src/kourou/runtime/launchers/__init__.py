"""Launchers: what brings a plan's nodes to life. Each sees the plan only, never the program."""
