"""Whom a person means who names a label, a pattern or a node."""

from __future__ import annotations

import pytest

from kourou import errors
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.monitoring.node_choice import choose_node, choose_nodes, choose_running

RECORDS = {
    record.name: record
    for record in (
        NodeRecord(name="learner/0", state=NodeState.READY),
        NodeRecord(name="actor/0", state=NodeState.FINISHED, removed="kourou scale"),
        NodeRecord(name="actor/1", state=NodeState.FAILED, will_restart=True),
        NodeRecord(name="actor/2", state=NodeState.FAILED),
        NodeRecord(name="done/0", state=NodeState.FINISHED),
        NodeRecord(name="done/1", state=NodeState.FINISHED),
    )
}


@pytest.mark.parametrize(
    ("word", "names", "running"),
    [
        ("actor", ["actor/0", "actor/1", "actor/2"], ["actor/1"]),
        ("a*", ["actor/0", "actor/1", "actor/2"], ["actor/1"]),
        ("actor/0", ["actor/0"], ["actor/0"]),  # it was named: whoever acts on it says why that is in vain
        ("done", ["done/0", "done/1"], ["done/0", "done/1"]),
    ],
)
def test_who_acts_on_several_leaves_out_those_that_have_ended_for_good(word, names, running):
    assert choose_nodes(list(RECORDS), word) == names
    assert choose_running(RECORDS, word) == running


def test_a_label_of_which_one_node_is_left_is_one_node():
    assert choose_node(RECORDS, "actor") == "actor/1"
    with pytest.raises(errors.NotFound, match=r"'done' has 2 nodes, name one: done/0, done/1"):
        choose_node(RECORDS, "done")
