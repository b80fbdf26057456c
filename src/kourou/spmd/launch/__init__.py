"""A function's run: its fields, the hosts kept between runs, one run, its answers and who is to blame.

Start with ``launcher`` and ``job``, then ``host_pool``, ``root_cause``, ``results`` and ``output``. It may use
``hosts`` and ``worker``.
"""
