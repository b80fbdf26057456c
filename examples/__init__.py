"""Programs to read first. Run them from the repository's root: ``python examples/hello_world/main.py``."""
