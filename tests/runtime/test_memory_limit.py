"""Who comes near a memory limit is told once, and who passes it is to be killed."""

from __future__ import annotations

import os

from kourou.runtime.process import process_table
from kourou.runtime.process.memory_limit import MemoryWatch


def test_a_limit_that_comes_near_is_told_once_and_one_that_is_passed_each_time() -> None:
    me = os.getpid()
    used = process_table.memory_bytes({me})
    near, far, past = MemoryWatch(), MemoryWatch(), MemoryWatch()
    near.add(me, int(used * 1.05))
    far.add(me, used * 10)
    past.add(me, used // 2)
    assert (near.look(), far.look(), list(past.look())) == ({}, {}, [me])
    assert list(near.come_near()) == [me]
    assert near.come_near() == {}
    assert far.come_near() == {}
    past.discard(me)  # it is killed, which is told in other words
    assert past.come_near() == {}
