"""The smallest program: one node answers calls, another calls it and then ends the program.

Run it from the repository's root::

    python examples/hello_world/main.py                         # two threads of this process
    python examples/hello_world/main.py --launch-type local_mp  # two processes
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import kourou as lp


class Greeter:
    """Its public methods can be called by other nodes. It has no ``run``, so it serves until the program stops."""

    def greet(self, name: str) -> str:
        return f"Hello, {name}!"


def visit(greeter: lp.CourierClient, names: Sequence[str]) -> None:
    """A node's whole life. What stood as a handle in ``make_program`` arrives here as a client."""
    for name in names:
        print(greeter.greet(name))
    lp.stop()  # otherwise the greeter would go on serving


def make_program() -> lp.Program:
    program = lp.Program("hello-world")
    greeter = program.add_node(lp.CourierNode(Greeter), label="greeter")
    program.add_node(lp.PyNode(visit, greeter, names=["world", "Kourou"]), label="visitor")
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description="Run two nodes, one of which calls the other.")
    parser.add_argument("--launch-type", help="local_mt (threads) or local_mp (processes)")
    lp.launch(make_program(), parser.parse_args().launch_type).wait()


if __name__ == "__main__":
    main()
