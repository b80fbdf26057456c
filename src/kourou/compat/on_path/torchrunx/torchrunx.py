"""What ``import torchrunx`` finds where ``kourou.compat`` is installed; it becomes :mod:`kourou.compat.torchrunx`."""

from kourou.compat.modules import provide

provide(__name__)
