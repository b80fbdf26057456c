"""What the original returned, code by code; where it failed, ours says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kourou.experiments.rlpyt.affinity import affinity_from_code, make_affinity
from kourou.experiments.rlpyt.affinity_code import (
    AffinityCode,
    encode_affinity,
    get_n_run_slots,
    prepend_run_slot,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "rlpyt_affinity.json"
MACHINES = json.loads(GOLDEN.read_text(encoding="utf-8"))


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["code"])
def test_codes_slots_and_dictionaries_are_the_originals(machine: Mapping[str, Any]) -> None:
    code = encode_affinity(**machine["encode"])
    assert code == machine["code"]
    assert get_n_run_slots(code) == machine["n_run_slots"]
    assert AffinityCode.decode(code).encode() == code
    for number, slot in enumerate(machine["slots"]):
        assert prepend_run_slot(number, code) == slot["slot_code"]
        if "error" in slot:
            with pytest.raises(ValueError, match=r"\d"):
                affinity_from_code(slot["slot_code"])
        else:
            assert as_json(affinity_from_code(slot["slot_code"])) == slot["affinity"]
            assert as_json(make_affinity(number, **machine["encode"])) == slot["affinity"]


def test_the_file_has_errors_and_results() -> None:
    slots = [slot for machine in MACHINES for slot in machine["slots"]]
    assert (len(MACHINES), len(slots)) == (368, 1508)
    assert sum("error" in slot for slot in slots) == 272
