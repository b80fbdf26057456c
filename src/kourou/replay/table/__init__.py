"""A table: items as columns of arrays, in the order of its selectors, under its limiter.

Start with ``table`` and ``state``, then ``item_columns`` and ``keymap``; ``requests`` wait for the limiter
in ``serving``. It may use ``protocol``, ``selectors``, ``rate_limiters`` and what is below.
"""
