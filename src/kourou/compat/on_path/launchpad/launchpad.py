"""What ``import launchpad`` finds where ``kourou.compat`` is installed; it becomes :mod:`kourou.compat.launchpad`."""

from kourou.compat.modules import provide

provide(__name__)
