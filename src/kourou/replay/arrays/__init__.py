"""Arrays as replay takes them: their types, which dtypes arrive as they were, nested data, signatures.

It uses nothing of replay's. Start with ``array_types``, then ``dtypes``, ``tree`` and ``signature``.
"""
