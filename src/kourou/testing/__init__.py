"""Public helpers for tests: the pytest fixture ``launch``, and the contracts that backends have to keep."""
