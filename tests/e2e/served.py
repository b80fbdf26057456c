"""A server and its user, as tests have them brought to life on engines' hosts."""

from __future__ import annotations

import os

import kourou as lp


class Server:
    """Answers, and tells where it is."""

    def echo(self, value: int) -> int:
        return value

    def where(self) -> tuple[str, int, int]:
        """The host's name, as its engine has it; the process; the attempt."""
        name = os.environ.get("KOUROU_HOST_NAME") or os.environ["SLURMD_NODENAME"]
        return name, os.getpid(), lp.get_context().attempt


def use(server: Server) -> None:
    print("first answer", server.echo(3), "from", server.where()[0])
    lp.wait_for_stop()


def served() -> lp.Program:
    program = lp.Program("served")
    server = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(use, server), label="user")
    return program
