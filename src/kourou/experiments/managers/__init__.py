"""Managers: several fits of one agent, or of many, repeated, seeded, on disk and comparable.

Start with ``manager`` and ``job`` (what one fit does), then ``fits`` (on the scheduler, as threads, processes or
jobs), ``tuning`` and ``evaluation``. It may use ``agents`` and what is below.
"""
