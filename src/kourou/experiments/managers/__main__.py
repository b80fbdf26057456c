"""``python -m kourou.experiments.managers JOB FIT``: one fit in an interpreter of its own."""

from __future__ import annotations

import sys

from kourou.experiments.managers.job import do_fit

if __name__ == "__main__":
    do_fit(sys.argv[1], int(sys.argv[2]))
