"""What is to be run, as data: each run has an id that its content makes.

Start with ``runs`` and ``parameters``, then ``descriptions``, ``search`` and ``variants`` (grids, spaces, levels),
and ``sweepfile`` (all of it in a file). It may use ``seeding`` and what is below.
"""
