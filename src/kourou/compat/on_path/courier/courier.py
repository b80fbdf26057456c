"""What ``import courier`` finds where ``kourou.compat`` is installed; it becomes :mod:`kourou.compat.courier`."""

from kourou.compat.modules import provide

provide(__name__)
