"""What ``from pybind11_abseil.status import StatusNotOk`` finds, by which programs catch Courier's errors."""

from kourou.compat.modules import provide

provide(__name__)
