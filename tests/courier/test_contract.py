"""Every lane keeps the same contract."""

import pytest

from kourou.testing import contracts

LANES = ["inproc", "local", "grpc"]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("check", contracts.LANE_CHECKS, ids=lambda check: check.__name__)
def test_lane_keeps_the_contract(lane, check):
    check(lane)
