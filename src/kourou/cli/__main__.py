"""``python -m kourou.cli``."""

from kourou.cli import main

main()
