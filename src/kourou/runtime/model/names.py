"""Names of nodes: ``label/index``, and ``label/index:place`` for a child of a colocation, ``:place`` once per level."""

from __future__ import annotations


def label_of(name: str) -> str:
    """The group that a node belongs to; a child belongs to its colocation's."""
    return name.rpartition("/")[0]


def group_of(label: str) -> str:
    """What stands for all nodes of a group where a node's name would stand: ``label/*``."""
    return f"{label}/*"


def index_of(name: str) -> int:
    """The replica's number in its group; a child's is its colocation's."""
    return int(name.rpartition("/")[2].partition(":")[0])


def child_name(parent: str, place: int) -> str:
    """The name of a colocation's child, by its place among its siblings."""
    return f"{parent}:{place}"


def root_of(name: str) -> str:
    """The node that the program was given: itself, or the outermost colocation that it is in."""
    label, slash, rest = name.rpartition("/")
    return label + slash + rest.partition(":")[0]
