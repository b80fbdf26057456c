"""What was raised in one process is raised in another: class, text, parts; and text at the least."""

import builtins
import copy
import importlib
import pickle
from typing import Any

import numpy as np
import pydantic
import pytest

from kourou import errors
from kourou.courier.wire import failures
from optional import optional

torch = optional("torch")

# What some classes have to be made of; all others take any arguments.
SYNTAX = ("invalid", ("file.py", 3, 1, "a b"))
ARGUMENTS = {
    **dict.fromkeys(("SyntaxError", "IndentationError", "TabError", "_IncompleteInputError"), SYNTAX),
    "UnicodeDecodeError": ("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "UnicodeEncodeError": ("ascii", "\xe4", 0, 1, "not in range"),
    "UnicodeTranslateError": ("\xe4", 0, 1, "no such thing"),
    "BaseExceptionGroup": ("several", [ValueError("one"), OSError(2, "no such file", "/two")]),
    "ExceptionGroup": ("several", [ValueError("one"), OSError(2, "no such file", "/two")]),
}
BUILT_IN = [
    kind
    for name, kind in sorted(vars(builtins).items())
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
]


def arrived(error: BaseException) -> Any:
    """What a caller catches when a handler raises ``error``."""
    try:
        raise error
    except BaseException as raised:
        failure = failures.describe(raised, node="learner/0", method="step")
    return failures.rebuild(pickle.loads(pickle.dumps(failure)))


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.__name__)
def test_every_built_in_exception_arrives(kind):
    # given one of the interpreter's own exceptions
    error = kind(*ARGUMENTS.get(kind.__name__, ("text", 7)))
    # when it arrives, and is pickled once more
    came = arrived(error)
    again = copy.copy(pickle.loads(pickle.dumps(came)))
    # then it has its text, and its class, unless that would end the thread of whoever gets it
    one: Any
    for one in (came, again):
        assert isinstance(one, errors.RemoteError)
        assert str(error) in str(one)
        assert one.remote_type == type(error).__name__
        assert "test_failures" in one.remote_traceback
        if issubclass(type(error), Exception):
            assert isinstance(one, type(error))
            assert str(one) == str(error)


def _key_error():
    return dict[str, int]()["k"]


def _attribute():
    return object().nothing  # type: ignore[attr-defined]  # that is the point


def _import():
    importlib.import_module("kourou.nothing")


def _axis():
    return np.zeros(2).sum(axis=3)


def _no_memory():
    return np.empty(1 << 45)


def _shapes():
    return torch.zeros(2) @ torch.zeros(3)


def _file():
    return open("/no/such/file")  # noqa: PTH123 - there is none


class Config(pydantic.BaseModel):
    steps: int


def _config():
    return Config.model_validate({"steps": "many"})


def _syntax():
    return compile("a b", "<text>", "exec")


@pytest.mark.parametrize(
    ("raises", "kept"),
    [
        (_key_error, {"args": ("k",)}),
        (_attribute, {"name": "nothing"}),
        (_import, {"name": "kourou.nothing"}),
        (_axis, {"axis": 3, "ndim": 1}),
        (_no_memory, {"shape": (1 << 45,)}),
        (_shapes, {}),
        (_file, {"filename": "/no/such/file", "errno": 2}),
        (_config, {"title": "Config"}),
        (_syntax, {"filename": "<text>", "lineno": 1}),
    ],
)
def test_what_libraries_raise_keeps_class_text_and_fields(raises, kept):
    # given an exception as the interpreter, NumPy, torch or pydantic raises it
    with pytest.raises(Exception) as caught:
        raises()
    # when it arrives
    came = arrived(caught.value)
    # then it is caught as at home
    assert isinstance(came, caught.type)
    assert isinstance(came, errors.RemoteError)
    assert str(came) == str(caught.value)
    assert {name: getattr(came, name) for name in kept} == kept


def test_a_validation_error_of_pydantic_still_tells_what_was_wrong():
    with pytest.raises(pydantic.ValidationError) as caught:
        _config()
    assert arrived(caught.value).errors() == caught.value.errors()


@pytest.mark.skipif(not hasattr(builtins, "ExceptionGroup"), reason="groups of exceptions came with Python 3.11")
def test_the_members_of_a_group_arrive_though_they_cannot_be_constructed_again():
    class Picky(Exception):
        def __init__(self, first, second):
            super().__init__(f"{first}{second}")
            self.second = second

    make: Any = vars(builtins)["ExceptionGroup"]
    group = make("two", [Picky("a", 1), make("one", [KeyError("k")])])
    picky, inner = arrived(group).exceptions
    assert (picky.second, str(picky)) == (1, "a1")
    assert isinstance(inner.exceptions[0], KeyError)


def test_a_huge_exception_keeps_its_class_and_a_shortened_text():
    came: Any = arrived(ValueError("begin" + "x" * 5_000_000 + "end", np.zeros(10_000_000)))
    assert len(came.remote_traceback) < 200_000
    assert isinstance(came, ValueError)
    assert len(str(came)) < 100_000
    assert str(came).startswith("('begin")
    assert "characters were left out" in str(came)
    assert len(pickle.dumps(came)) < 1_000_000


class Slotted(Exception):
    __slots__ = ("place",)


class Owner(Exception):
    """Has attributes of the names that remote errors have."""

    def __init__(self):
        super().__init__("mine")
        self.host, self.node = "database", 3


class Guarded(Exception):
    """Nothing of it can be set, and it is made with a keyword."""

    def __init__(self, **_):
        """Not the one of ``Exception``: that takes no keywords."""

    def __new__(cls, *, code):
        return super().__new__(cls, code)

    def __setattr__(self, name, value):
        raise AttributeError(name)

    @property
    def method(self):
        return "POST"


class NoText(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class Sealed(Exception):
    """It cannot be derived from."""

    def __init_subclass__(cls):
        raise TypeError("sealed")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('bang')",)


def test_attributes_arrive_wherever_they_are_kept():
    slotted: Any = Slotted("x")
    slotted.place = 4
    assert arrived(slotted).place == 4
    owner = arrived(Owner())
    assert (owner.host, owner.node, owner.method) == ("database", 3, "step")
    guarded = arrived(Guarded(code=5))
    assert (guarded.args, guarded.method, guarded.node) == ((5,), "POST", "learner/0")


@pytest.mark.parametrize("error", [NoText(), Sealed("wax"), ValueError(Bomb())])
def test_whatever_goes_wrong_it_is_a_remote_error_with_a_traceback(error):
    came = arrived(error)
    assert isinstance(came, errors.RemoteError)
    assert "raise error" in came.remote_traceback
    assert str(came)


def test_errors_of_calls_have_the_codes_and_the_words_of_grpc():
    late = errors.DeadlineExceeded("step: no answer")
    assert (late.code, late.code.name, late.message) == (4, "DEADLINE_EXCEEDED", "step: no answer (Deadline Exceeded)")
    assert "failed to connect to all addresses" in errors.ServerUnavailable("nobody there").message
    assert errors.NodeExited("gone").code == errors.StatusCode.UNAVAILABLE
    same = failures.rebuild(failures.describe(late, node="n", method="m", raised_by_handler=False))
    assert (type(same), str(same)) == (errors.DeadlineExceeded, str(late))
