"""One client for several servers, each of which has some of the tables."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from kourou.arguments import also_named
from kourou.closing import ClosedAtExit
from kourou.errors import TableNotFound
from kourou.replay.client.client import Client, of_tables
from kourou.replay.table.info import TableInfo
from kourou.replay.writers.group import GroupBatchWriter, GroupStructuredWriter, GroupWriter
from kourou.replay.writers.rules import ItemRule

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")


def _of_table(method: Callable[Concatenate[Client, P], R]) -> Callable[Concatenate[GroupClient, P], R]:
    """A method of a Client that begins with the name of a table: that of the client of the server which has it."""

    @functools.wraps(method)
    def call(self: GroupClient, table: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.client_of(table), method.__name__)(table, *args, **kwargs)

    return cast("Callable[Concatenate[GroupClient, P], R]", call)


class GroupClient(ClosedAtExit):
    """What a :class:`Client` can do, with the tables of several servers.

    Methods are those of a Client; each call goes to the server that has the table. Which one that is, the servers are
    asked once. Any number of threads may use it; can be pickled.

    Args:
        clients: one for each server. No two of them have a table of the same name.
    """

    insert_batch = _of_table(Client.insert_batch)
    sample_batch = _of_table(Client.sample_batch)
    sampler = _of_table(Client.sampler)
    sample = _of_table(Client.sample)
    mutate_priorities = _of_table(Client.mutate_priorities)
    items = _of_table(Client.items)
    get = _of_table(Client.get)
    reset = _of_table(Client.reset)
    set_rate_limiter = _of_table(Client.set_rate_limiter)

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = tuple(clients)
        self._places: dict[str, Client] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return GroupClient, (self._clients,)

    def copy(self) -> GroupClient:
        """Another client of the same servers, with connections of its own."""
        return GroupClient([client.copy() for client in self._clients])

    def __repr__(self) -> str:
        return f"<replay client of {', '.join(client.server_address for client in self._clients)}>"

    @property
    def clients(self) -> tuple[Client, ...]:
        """One for each server."""
        return self._clients

    def client_of(self, table: str) -> Client:
        """The client of the server that has a table.

        Raises:
            TableNotFound: none has it.
        """
        with self._lock:
            if not self._places:
                self._places = {name: client for client in self._clients for name in client.server_info()}
            found = self._places.get(table)
        if found is None:
            raise TableNotFound(f"there is no table {table!r}; there are {', '.join(map(repr, self._places))}")
        return found

    def close(self) -> None:
        """Let go of all servers."""
        for client in self._clients:
            client.close()

    @also_named(formerly={"timeout": "timeout_s"})
    def insert(
        self, data: Any, priorities: Mapping[str, float], timeout_s: float | None = None, *, policy_version: int = -1
    ) -> dict[str, int]:
        """See :meth:`Client.insert`; servers one after the other, so those before one that fails have their items."""
        shares: dict[Client, dict[str, float]] = {}
        for table, priority in of_tables(priorities).items():
            shares.setdefault(self.client_of(table), {})[table] = priority
        keys: dict[str, int] = {}
        for client, share in shares.items():
            keys.update(client.insert(data, share, timeout_s, policy_version=policy_version))
        return keys

    def trajectory_writer(
        self, num_keep_alive_refs: int, *, tables: Sequence[str] | None = None, max_in_flight_items: int = 4096
    ) -> GroupWriter:
        """See :meth:`Client.trajectory_writer`.

        Args:
            num_keep_alive_refs: steps that items can be made of.
            tables: what items are made for; every step goes to the servers of these tables only. None for all.
            max_in_flight_items: of each server.
        """
        return GroupWriter(
            self._writers_of(
                tables,
                lambda client: client.trajectory_writer(num_keep_alive_refs, max_in_flight_items=max_in_flight_items),
            )
        )

    def batch_writer(
        self,
        num_environments: int,
        num_keep_alive_refs: int,
        *,
        tables: Sequence[str] | None = None,
        max_in_flight_items: int = 4096,
    ) -> GroupBatchWriter:
        """See :meth:`Client.batch_writer`, and :meth:`trajectory_writer` for ``tables``."""
        return GroupBatchWriter(
            self._writers_of(
                tables,
                lambda client: client.batch_writer(
                    num_environments, num_keep_alive_refs, max_in_flight_items=max_in_flight_items
                ),
            )
        )

    def _writers_of(self, tables: Sequence[str] | None, make: Callable[[Client], W]) -> dict[str, W]:
        """By table, a writer of its server, of which there is one for each."""
        places = [(table, self.client_of(table)) for table in (self.server_info() if tables is None else tables)]
        writers = {client: make(client) for client in dict.fromkeys(client for _, client in places)}
        return {table: writers[client] for table, client in places}

    def structured_writer(self, rules: Sequence[ItemRule], *, max_in_flight_items: int = 4096) -> GroupStructuredWriter:
        """See :meth:`Client.structured_writer`; ``max_in_flight_items`` of each server."""
        shares: dict[Client, list[ItemRule]] = {}
        for rule in rules:
            shares.setdefault(self.client_of(rule.table), []).append(rule)
        return GroupStructuredWriter(
            [
                client.structured_writer(share, max_in_flight_items=max_in_flight_items)
                for client, share in shares.items()
            ]
        )

    @also_named(formerly={"timeout": "timeout_s"})
    def checkpoint(self, timeout_s: float | None = None) -> list[str]:
        """Have every server write a checkpoint; their folders. Each is a cut through one server."""
        return [client.checkpoint(timeout_s) for client in self._clients]

    @also_named(timeout="timeout_s")
    def server_info(self, timeout_s: float | None = None) -> dict[str, TableInfo]:
        """All tables of all servers as they are now."""
        return {name: info for client in self._clients for name, info in client.server_info(timeout_s).items()}
