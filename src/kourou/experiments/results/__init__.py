"""What runs measured, as one table, drawn and compared.

Start with ``metrics`` and ``results``, then ``curves`` and ``plots``, ``statistics`` and ``comparisons``;
``event_files`` are TensorBoard's. It may use ``describe`` and what is below.
"""
