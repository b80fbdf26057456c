"""One consumer gives work to several producers at once and takes the results as they come.

Each call through ``client.futures`` returns a ``concurrent.futures.Future``, so the standard library's tools apply.

    python examples/consumer_producers/main.py --launch-type local_mp
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from concurrent.futures import as_completed

import kourou as lp

PRODUCERS = 3
LIMIT = 60_000
CHUNK = 5_000


class Producer:
    """Counts primes."""

    def count_primes(self, start: int, end: int) -> int:
        """How many primes there are from ``start`` up to, not including, ``end``."""
        return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(max(start, 2), end))


def consume(producers: Sequence[lp.CourierClient]) -> None:
    """Hand out the chunks in turn, add up the answers, end the program."""
    turns = itertools.cycle(producers)
    calls = [next(turns).futures.count_primes(start, start + CHUNK) for start in range(0, LIMIT, CHUNK)]
    total = sum(call.result() for call in as_completed(calls))
    print(f"There are {total:,} primes below {LIMIT:,}.")
    lp.stop()


def make_program() -> lp.Program:
    program = lp.Program("consumer-producers")
    with program.group("producer"):
        producers = [program.add_node(lp.CourierNode(Producer)) for _ in range(PRODUCERS)]
    # Handles are found in lists, too; each arrives as a client of its producer.
    program.add_node(lp.PyNode(consume, producers), label="consumer")
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description="Count primes with several producers.")
    parser.add_argument("--launch-type", help="local_mt (threads) or local_mp (processes)")
    lp.launch(make_program(), parser.parse_args().launch_type).wait()


if __name__ == "__main__":
    main()
