"""What ``import reverb`` finds where ``kourou.compat`` is installed; it becomes :mod:`kourou.compat.reverb`."""

from kourou.compat.modules import provide

provide(__name__)
