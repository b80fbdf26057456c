"""A worker's life: take the function, join the others, call it, leave an answer, end.

Start with ``main``, then ``parcel`` (values in files that a host's workers share), ``lines`` and ``environment``.
It uses nothing else of spmd.
"""
