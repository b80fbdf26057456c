"""Version 1 of the protocol. Fields are added, never renumbered."""
