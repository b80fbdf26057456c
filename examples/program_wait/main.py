"""The launcher waits for some nodes only, asks another for the result, and stops the rest itself.

Also shown: a plain function as the constructor of a CourierNode, and a handle that is used in the launcher.

    python examples/program_wait/main.py --launch-type local_mp
"""

from __future__ import annotations

import argparse
import threading

import kourou as lp

WORKERS = 3
ROUNDS = 10


class Ledger:
    """A sum that several nodes add to. Calls come in several threads, hence the lock."""

    def __init__(self, balance: int) -> None:
        self._balance = balance
        self._lock = threading.Lock()

    def add(self, amount: int) -> None:
        with self._lock:
            self._balance += amount

    def balance(self) -> int:
        return self._balance


def open_ledger(*, deposit: int) -> Ledger:
    """A CourierNode serves whatever its constructor returns: a class's instance, or what a function makes."""
    return Ledger(deposit)


def work(ledger: lp.CourierClient, amount: int) -> None:
    """Ends when its work is done. The others run on."""
    for _ in range(ROUNDS):
        ledger.add(amount)


def make_program() -> lp.Program:
    program = lp.Program("program-wait")
    ledger = program.add_node(lp.CourierNode(open_ledger, deposit=1_000), label="ledger")
    with program.group("worker"):
        for index in range(WORKERS):
            program.add_node(lp.PyNode(work, ledger, amount=index + 1))
    # A function of kourou's own as a node: it does nothing until the program stops.
    program.add_node(lp.PyNode(lp.wait_for_stop), label="idler")
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description="Wait for the workers of a program, then stop it.")
    parser.add_argument("--launch-type", help="local_mt (threads) or local_mp (processes)")
    program = make_program()
    with lp.launch(program, parser.parse_args().launch_type) as run:
        run.wait(labels=["worker"])
        ledger = program.handle_to("ledger").dereference()
        print(f"The workers have finished, and the balance is {ledger.balance():,}.")
        print(f"Has the idler ended? {run.nodes['idler/0'].state.ended}")
    # The end of the block has stopped the program and waited for its end.
    print(f"Now the idler is {run.nodes['idler/0'].state}.")


if __name__ == "__main__":
    main()
