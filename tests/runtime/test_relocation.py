"""Where a node starts when its host is lost, and when a lost host is called again."""

from __future__ import annotations

import kourou as lp
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.plan.plan import NodePlan, Site
from kourou.runtime.plan.relocation import Relocation


class Sites:
    """A relocation, the hosts that are lost, and a clock."""

    def __init__(self, *hosts: lp.Host) -> None:
        self.lost: set[str] = set()
        self.called: list[str] = []
        self.now = 0.0
        self.sites = Relocation(lp.Hosts(hosts), self.lost.__contains__, self.called.append, lambda: self.now)

    def start(self, name: str, host: str = "a", **options: object) -> str:
        site = Site(host=host, **options)  # type: ignore[arg-type]
        where, _ = self.sites.start(NodePlan(name=name, kind="", process=ProcessSpec(name=name, argv=()), site=site))
        return where


ABC = (lp.Host("a"), lp.Host("b"), lp.Host("c"))


def test_a_node_starts_on_its_host_or_where_the_fewest_run_or_where_its_siblings_do() -> None:
    sites = Sites(*ABC)
    assert [sites.start("x/0"), sites.start("y/0", "b"), sites.start("z/0:0", "c"), sites.start("z/1", "c")] == [
        *"abcc"
    ]
    sites.lost.add("a")
    assert sites.start("x/0") == "b"
    assert sites.start("z/0:1") == "c"
    assert sites.start("x/1", others=("c",)) == "c"
    sites.sites.end("x/0")
    assert (sites.sites.host_of("x/0"), sites.sites.running_on("b")) == (None, ["y/0"])


def test_where_no_other_host_has_room_its_own_is_called_again() -> None:
    sites = Sites(lp.Host("a", cpus=1), lp.Host("b", cpus=1, slots=1), lp.Host("c", cpus=1))
    sites.start("x/0", "b")
    sites.lost.add("a")
    assert sites.start("y/0", cpus=1.0) == "c"
    sites.lost.add("c")
    assert sites.start("z/0", cpus=1.0) == "a"


def test_lost_hosts_are_called_again_now_and_then_when_a_node_looks_for_one() -> None:
    sites = Sites(*ABC)
    sites.lost |= {"a", "b"}
    when = []
    for minute in range(181):
        sites.now = 60.0 * minute
        sites.start("x/0")
        when += [minute] * sites.called.count("a")
        sites.called.clear()
    assert when == [1, 2, 4, 8, 16, 32, 62, 92, 122, 152]
    # a node whose host is there looks for none
    sites.lost.remove("a")
    sites.start("x/0")
    assert sites.called == []
