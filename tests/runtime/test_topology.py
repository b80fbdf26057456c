"""A program's graph to look at."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import kourou as lp
from kourou.runtime.graph.topology import Topology, Vertex

SVG = "{http://www.w3.org/2000/svg}"


class Server:
    """Serves."""

    def __init__(self, *others):
        """Calls them."""


def call(*handles):
    """Calls."""


def make_program() -> lp.Program:
    program = lp.Program("p")
    server = program.add_node(lp.CourierNode(Server), label="<server>")
    for _ in range(3):
        program.add_node(lp.PyNode(call, server, program.handle_to("late")), label="actor")
    program.add_node(lp.CourierNode(Server, server), label="late")
    return program


def boxes(svg: str) -> dict[str, float]:
    """Where boxes begin, by the title in them."""
    root = ET.fromstring(svg)  # noqa: S314 - our own picture
    lefts = [float(rect.attrib["x"]) for rect in root.iter(f"{SVG}rect")]
    titles = [text.text or "" for text in root.iter(f"{SVG}text") if text.get("font-weight") == "bold"]
    return dict(zip(titles, lefts, strict=True))


def test_a_program_and_its_plan_draw_the_same_and_callers_stand_left_of_whom_they_call():
    program = make_program()
    plan = lp.compile_program(program, "local_mt")
    assert program.to_mermaid() == plan.to_mermaid()
    assert program._repr_html_() == plan._repr_html_()
    assert "n1 --> n0" in program.to_mermaid()
    assert "<b>&lt;server&gt;</b>" in program.to_mermaid()
    left = boxes(program._repr_html_())
    assert left["actor ×3"] < left["late"] < left["<server>"]


@pytest.mark.parametrize(
    "calls",
    [{}, {"a": ["a"]}, {"a": ["b"], "b": ["a"]}, {"a": ["b", "c"], "b": ["c"], "c": ["b", "d"], "d": []}],
    ids=["empty", "itself", "circle", "circle-inside"],
)
def test_whoever_calls_in_circles_is_drawn_too(calls: dict[str, list[str]]):
    nodes = [Vertex(name=f"{a}/0", kind="k", inputs=tuple(f"{b}/0" for b in bs)) for a, bs in calls.items()]
    topology = Topology.of(nodes)
    root = ET.fromstring(topology.to_svg())  # noqa: S314 - our own picture
    arrows = [path for path in root.iter(f"{SVG}path") if path.get("fill")]
    assert len(arrows) == sum(map(len, calls.values()))
    assert boxes(topology.to_svg()).keys() == calls.keys()
