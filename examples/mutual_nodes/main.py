"""Two nodes that call each other, wired in two ways.

Handles point at nodes that exist, so of two nodes that know each other one has to be told later: either its handle is
asked for ahead (``program.handle_to``), or its arguments are given when both exist (``node.configure``).

    python examples/mutual_nodes/main.py --launch-type local_mp
"""

from __future__ import annotations

import argparse

import kourou as lp


class Even:
    """Knows that 0 is even, and leaves the rest to its peer."""

    def __init__(self, odd: lp.CourierClient) -> None:
        self._odd = odd

    def is_even(self, number: int) -> bool:
        return number == 0 or self._odd.is_odd(number - 1)


class Odd:
    """Knows that 0 is not odd, and leaves the rest to its peer."""

    def __init__(self, even: lp.CourierClient) -> None:
        self._even = even

    def is_odd(self, number: int) -> bool:
        return number != 0 and self._even.is_even(number - 1)


def ask(even: lp.CourierClient, wiring: str) -> None:
    """Ask one of them, which asks the other, which asks the first..."""
    answers = ", ".join(f"{number} is {'even' if even.is_even(number) else 'odd'}" for number in (4, 7))
    print(f"With {wiring}: {answers}.")
    lp.stop()


def make_program(wiring: str = "handle_to") -> lp.Program:
    program = lp.Program("mutual-nodes")
    if wiring == "handle_to":
        even = program.add_node(lp.CourierNode(Even, program.handle_to("odd")), label="even")
        program.add_node(lp.CourierNode(Odd, even), label="odd")
    else:
        even_node = lp.CourierNode(Even)
        even = program.add_node(even_node, label="even")
        odd = program.add_node(lp.CourierNode(Odd, even), label="odd")
        even_node.configure(odd)
    program.add_node(lp.PyNode(ask, even, wiring), label="asker")
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description="Run two nodes that call each other.")
    parser.add_argument("--launch-type", help="local_mt (threads) or local_mp (processes)")
    launch_type = parser.parse_args().launch_type
    for wiring in ("handle_to", "configure"):
        lp.launch(make_program(wiring), launch_type).wait()


if __name__ == "__main__":
    main()
