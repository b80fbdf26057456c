"""What of a script arrives in another process, as what, and when."""

from __future__ import annotations

import sys

import pytest


def test_everything_that_a_function_refers_to_is_there(shared, tmp_path):
    # Given a function with definitions, modules, data and functions of data behind it
    said = shared(
        tmp_path,
        """
        import collections, enum, functools, typing
        import xml.etree.ElementTree

        T = typing.TypeVar("T")
        Pair = collections.namedtuple("Pair", "a b")
        table = {"two": 2}
        half = lambda x: x / table["two"]

        class Color(enum.Enum):
            RED = 1

        class Base:
            made = {}
            def __init_subclass__(cls):
                Base.made[cls.__name__] = cls

        class Sub(Base, typing.Generic[T]):
            other: "Sub | None" = None
            @classmethod
            def new(cls):
                return cls()
            @staticmethod
            def color():
                return Color.RED
            @property
            def double(self):
                return half(8) * table["two"]

        Alias = Sub

        @functools.singledispatch
        def kind(value):
            return "any"

        @kind.register
        def _(value: int):
            return "int"

        @functools.wraps(kind)
        def wrapped(value):
            return kind(value)

        def entry():
            tag = xml.etree.ElementTree.fromstring("<tag/>").tag
            return Alias.new().double, Sub.color().name, Pair(1, 2), wrapped(1), kind(""), tag, Base.made["Sub"] is Sub

        VALUE = entry
        """,
        # When it is called elsewhere, then all of that is found
        "print(VALUE())",
    )
    assert said == "(8.0, 'RED', Pair(a=1, b=2), 'int', 'any', 'tag', True)\n"


def test_definitions_that_refer_to_each_other(shared, tmp_path):
    said = shared(
        tmp_path,
        """
        class First:
            def second(self):
                return Second()

        class Second(First):
            first = First

        First.second_class = Second
        First.handlers = {Second: lambda: Second.first}

        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)

        VALUE = [First().second(), even]
        """,
        """
        second, even = VALUE
        print(type(second).first is __main__.First, __main__.First.second_class is type(second), even(10))
        print(__main__.First.handlers[type(second)]() is __main__.First)
        """,
    )
    assert said == "True True True\nTrue\n"


def test_what_pickles_as_no_more_than_its_name(shared, tmp_path):
    # Given type variables, a new type and a sentinel, which functions and classes refer to
    said = shared(
        tmp_path,
        """
        import typing

        UserId = typing.NewType("UserId", int)
        T = typing.TypeVar("T", bound="Base")
        P = typing.ParamSpec("P")

        class Missing:
            def __reduce__(self):
                return "MISSING"

        MISSING = Missing()

        class Base(typing.Generic[T]):
            kept: typing.ClassVar = {"default": MISSING}

        def entry(user: UserId = UserId(1), call: typing.Callable[P, T] = None, other=MISSING):
            return [user, other is MISSING is Base.kept["default"], entry.__annotations__["call"].__args__[1] is T]

        VALUE = entry
        """,
        # When it is called elsewhere, then each is there once, and pickles as its name there, too
        """
        print(VALUE(), VALUE.__annotations__["user"] is __main__.UserId)
        for value in (__main__.UserId, __main__.T, __main__.P, __main__.MISSING):
            assert pickle.loads(pickle.dumps(value)) is value
        """,
    )
    assert said == "[1, True, True] True\n"


def test_annotations_that_are_text_are_evaluated_where_they_arrive(shared, tmp_path):
    said = shared(
        tmp_path,
        """
        from __future__ import annotations
        import collections
        import dataclasses
        import typing

        class Inner:
            pass

        @dataclasses.dataclass
        class Config:
            inner: typing.Optional[Inner]
            counts: collections.Counter

        def entry(config: Config) -> Inner:
            return [typing.get_type_hints(item) for item in (Config, entry)]

        VALUE = entry
        """,
        """
        config, function = VALUE(None)
        print(list(config), function["config"] is __main__.Config, function["return"])
        """,
    )
    assert said == "['inner', 'counts'] True <class '__main__.Inner'>\n"


def test_classes_inside_of_classes_keep_their_full_name(shared, tmp_path):
    said = shared(
        tmp_path,
        """
        class Outer:
            class Inner:
                class Deep:
                    pass

        def entry():
            return Outer.Inner.Deep()

        VALUE = entry
        """,
        "print(type(pickle.loads(pickle.dumps(VALUE()))) is __main__.Outer.Inner.Deep)",
    )
    assert said == "True\n"


def test_lambdas_and_local_classes_see_the_globals_of_the_script(shared, tmp_path):
    said = shared(
        tmp_path,
        """
        count = 0

        def bump():
            global count
            count += 1

        def make():
            class Local:
                def count(self):
                    return count
            return Local

        VALUE = [bump, lambda: count, make()]
        """,
        """
        bump, get, Local = VALUE
        bump()
        print(get(), Local().count(), __main__.count)
        """,
    )
    assert said == "1 1 1\n"


def test_a_global_is_unpickled_when_it_is_asked_for_and_not_before(shared, tmp_path):
    (tmp_path / "heavy.py").write_text("class Base:\n    pass\n")
    said = shared(
        tmp_path,
        """
        import heavy

        class Model(heavy.Base):
            pass

        class Light:
            pass

        VALUE = Light()
        """,
        """
        print("heavy" in sys.modules, "Model" in vars(__main__), "Model" in dir(__main__))
        print(pickle.loads(b"\\x80\\x04\\x8c\\x08__main__\\x94\\x8c\\x05Model\\x94\\x93.").__mro__[1].__module__)
        print(hasattr(__main__, "Nothing"))
        """,
    )
    assert said == "False False True\nheavy\nFalse\n"


def test_large_arrays_are_shared_among_globals_and_writable(shared, tmp_path):
    pytest.importorskip("numpy")
    said = shared(
        tmp_path,
        """
        import numpy as np
        array = np.arange(100_000)
        views = [array, array]

        def entry():
            views[0][0] = 7
            return array[0], views[1][0], array.sum()

        VALUE = entry
        """,
        "print(*VALUE())",
    )
    assert said == f"7 7 {sum(range(100_000)) + 7}\n"


def test_a_module_that_is_missing_here_is_named_with_what_needs_it(shared, tmp_path):
    (tmp_path / "only_there.py").write_text("value = 1\n")
    with pytest.raises(AssertionError) as raised:
        shared(
            tmp_path,
            """
            import only_there

            def entry():
                return only_there.value

            VALUE = entry
            """
            "\n            import os; os.rename('only_there.py', 'gone.py')\n",
            "print(VALUE())",
        )
    assert "No module named 'only_there'" in str(raised.value)
    if sys.version_info >= (3, 11):  # where exceptions can be given notes
        assert "while only_there of the script was unpickled" in str(raised.value)


def test_setup_is_called_before_the_values_are_unpickled(shared, tmp_path):
    (tmp_path / "registry.py").write_text("known = []\n\ndef get():\n    return known[0]\n")
    said = shared(
        tmp_path,
        """
        import registry

        class Late:
            def __reduce__(self):
                return registry.get, ()

        def set_up():
            registry.known.append("set up")

        SETUP = [set_up]
        VALUE = Late()
        """,
        "print(VALUE)",
    )
    assert said == "set up\n"


def test_threads_that_ask_for_the_same_class_at_once_get_it_whole(shared, tmp_path):
    # Given a class whose unpickling lets other threads run in its middle, and eight threads that want instances
    said = shared(
        tmp_path,
        """
        import time

        class Slow:
            def __reduce__(self):
                return time.sleep, (0.05,)

        class Step:
            pause = Slow()
            def __setstate__(self, state):
                self.x = state["x"]

        step = Step()
        step.x = 1
        STREAM = __import__("pickle").dumps(step)

        def stream():
            return STREAM

        VALUE = stream
        """,
        """
        import threading
        from kourou.courier.wire import codec
        got, stream = [], VALUE()
        threads = [threading.Thread(target=lambda: got.append(codec.decode(stream).x)) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(got)
        """,
    )
    assert said == "[1, 1, 1, 1, 1, 1, 1, 1]\n"


def test_a_module_that_imports_from_the_script_finds_its_constants(shared, tmp_path):
    (tmp_path / "beside.py").write_text(
        "def rate():\n    from __main__ import config, NAMES\n    return config['lr'], NAMES\n"
    )
    said = shared(
        tmp_path,
        """
        config = {"lr": 0.1, "sizes": [64, 64]}
        NAMES = {"left"}
        circular = []
        circular.append(circular)

        VALUE = print
        """,
        """
        import beside
        print(beside.rate(), "circular" in dir(__main__))
        """,
    )
    assert said == "(0.1, {'left'}) False\n"


def test_classes_whose_bases_refer_to_them(shared, tmp_path):
    # Given bases that each know the class that is made of them
    said = shared(
        tmp_path,
        """
        class One:
            pass

        class Two:
            pass

        class Three:
            pass

        class Sub(One, Two, Three):
            pass

        for base in (One, Two, Three):
            base.known = [Sub]

        VALUE = Sub
        """,
        "print([base.known[0] is VALUE is __main__.Sub for base in (__main__.One, __main__.Two, __main__.Three)])",
    )
    assert said == "[True, True, True]\n"


def test_a_fork_while_a_class_is_loaded_gets_it_whole(shared, tmp_path):
    # Given a thread that is in the middle of a class, and waits there for a moment after the fork was asked for
    (tmp_path / "middle.py").write_text("import threading\nreached = threading.Event()\n")
    said = shared(
        tmp_path,
        """
        import time

        class Slow:
            def __reduce__(self):
                return eval, ("[__import__('middle').reached.set(), __import__('time').sleep(0.1)]",)

        class Step:
            pause = Slow()

        class Other:
            pass

        def entry():
            pass

        VALUE = entry
        """,
        """
        import middle, os, threading
        thread = threading.Thread(target=lambda: __main__.Step)
        thread.start()
        middle.reached.wait()
        # When the process forks, then its child can load others
        child = os.fork()
        if child == 0:
            os._exit(0 if hasattr(__main__.Step, "pause") and __main__.Other() else 1)
        print(os.waitpid(child, 0)[1])
        thread.join()
        """,
    )
    assert said == "0\n"
