"""A node's methods as coroutines: what a call gives at once is the same future that ``client.futures`` gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from kourou import courier
from kourou.runtime.graph.handles import maybe_dereference
from kourou.shown import shown

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")


class Client:
    """Calls the methods of a node from coroutines.

    ::

        client = lp.aio.Client(handle)
        result = await client.step(1)
        async for token in client.generate(prompt):  # of a method that is a generator, asynchronous or not
            ...

    A call is under way as soon as it is made, so several may be: ``asyncio.gather(client.step(1), client.step(2))``.
    Cancelling whoever awaits it cancels the call, and with it the handler's own coroutine; so does leaving the loop
    over a stream. Nothing here waits in the event loop's thread, not even for a node that is still starting. It
    can be pickled, and may be used in several event loops.

    Args:
        target: a handle, a client, or an address. A client's connection is shared, and an ``async with`` closes only
            what it has opened.
        options: as for :func:`kourou.courier.with_options`: ``timeout_s``, ``idempotent``.
    """

    def __init__(self, target: object, **options: Any) -> None:
        found: object = courier.Client(target) if isinstance(target, str) else maybe_dereference(target)
        if not isinstance(found, courier.Client):
            raise TypeError(f"this takes a handle or a client of a CourierNode, or an address; got {shown(target)}")
        self._owns = found is not target
        self._client = courier.with_options(found, **options) if options else found

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):  # Python's own probes (copy, pickle, IPython …) must not become calls
            raise AttributeError(f"a client has no attribute {name!r}; private methods cannot be called remotely")
        method = getattr(self._client.futures, name)
        self.__dict__[name] = method
        return method  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the remote object itself."""
        return self._client.futures(*args, **kwargs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owns:
            courier.close(self._client)

    def __repr__(self) -> str:
        return f"<asynchronous client of {courier.address(self._client)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._client,)

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._client) if name != "futures"]


@overload
async def call(method: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
async def call(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a blocking client's method and await the result, as in ``await lp.aio.call(client.step, 1)``.

    Type checkers know its arguments and its result, which they cannot know of those of a :class:`Client`.

    Raises:
        TypeError: not a method of a client.
    """
    return await cast("Any", courier.submit(method, *args, **kwargs))


def stream(method: Callable[P, Iterator[R] | AsyncIterator[R]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
    """The items of a blocking client's method that is a generator.

    ``async for item in lp.aio.stream(client.rows, 5)`` is what ``lp.aio.Client(client).rows(5)`` gives, with its types.

    Raises:
        TypeError: not a method of a client; or, at the first item, the method is no generator.
    """
    return aiter(cast("AsyncIterator[R]", courier.submit(method, *args, **kwargs)))
