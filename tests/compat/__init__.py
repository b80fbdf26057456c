"""Programs of other projects, and the names that they use."""
