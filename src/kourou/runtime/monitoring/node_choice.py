"""Which nodes a person means by a word. It imports nothing of what asks a run: logs can be looked at without."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence

from kourou import errors
from kourou.runtime.model.records import NodeRecord


def choose_nodes(names: Sequence[str], word: str) -> list[str]:
    """The nodes that a person means: one by ``label/index``, all of a label, or those that fit a pattern (``actor/*``).

    Raises:
        NotFound: there is none of that name.
    """
    meant = [name for name in names if name == word] or [name for name in names if name.rpartition("/")[0] == word]
    meant = meant or fnmatch.filter(names, word)
    if not meant:
        labels = Counter(name.rpartition("/")[0] or name for name in names)
        listed = ", ".join(label if count == 1 else f"{label} ({count} nodes)" for label, count in labels.items())
        raise errors.NotFound(f"there is no node {word!r}; the labels are: {listed}")
    return meant


def choose_running(nodes: Mapping[str, NodeRecord], word: str) -> list[str]:
    """The nodes to do something with that a person means: of several, not those that have ended for good.

    Raises:
        NotFound: there is none of that name.
    """
    meant = choose_nodes(list(nodes), word)
    return [name for name in meant if not nodes[name].gone] or meant


def choose_node(nodes: Mapping[str, NodeRecord], word: str) -> str:
    """The one node that a person means: ``label/index``, or a label of which one node has not ended for good.

    Raises:
        NotFound: there is none of that name, or several.
    """
    meant = choose_running(nodes, word)
    if len(meant) > 1:
        raise errors.NotFound(f"{word!r} has {len(meant)} nodes, name one: {', '.join(meant)}")
    return meant[0]
