"""What selectors do for one table: pick slots, many at a time.

Each module is one data structure. All of them work on arrays of slots, so that the cost of Python is paid for a
batch and not for an item.
"""
