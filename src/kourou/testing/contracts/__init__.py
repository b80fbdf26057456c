"""What every lane of the courier has to do, as checks that anybody can run.

Each check is a function of one argument, the name of a lane. It starts servers and clients of its own, and raises
AssertionError when the lane breaks the contract::

    @pytest.mark.parametrize("check", contracts.LANE_CHECKS)
    def test_my_lane(check):
        check("local")
"""

from __future__ import annotations

from collections.abc import Callable

from kourou.testing.contracts import awaiting, calls, ends, failures, streams, timing
from kourou.testing.contracts.serving import connected

__all__ = ["LANE_CHECKS", "connected"]

LANE_CHECKS: tuple[Callable[[str], None], ...] = tuple(
    value
    for module in (calls, failures, timing, streams, awaiting, ends)
    for name, value in vars(module).items()
    if name.startswith("check_")
)
