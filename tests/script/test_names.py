"""What may travel as a name, because all others have it under that name."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import textwrap
import types

import pytest

from kourou.courier.wire import codec
from kourou.script import names


@pytest.fixture
def main(monkeypatch):
    """A script of its own in place of pytest's."""
    module = types.ModuleType("__main__")
    exec(
        textwrap.dedent("""
            import functools

            class Step:
                class Inner:
                    pass

            @functools.cache
            def cached():
                pass

            def function():
                def local():
                    pass
                return local
        """),
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


class Has:
    def __init__(self, **held):
        self.held = held

    def holds(self, name, value):
        return self.held.get(name) is value

    def close(self):
        pass


def test_nothing_is_shared_with_nobody(main):
    assert not names.is_shared(main.Step)


def test_what_everybody_has_is_shared(main):
    with names.shared_with(names.ANYTHING), names.shared_with(Has(Step=main.Step, cached=main.cached)):
        shared = [main.Step, main.Step.Inner, main.cached]
        apart = [main.function, main.function(), types.FunctionType, functools.cache]
        assert [names.is_shared(value) for value in shared] == [True] * 3
        assert [names.is_shared(value) for value in apart] == [False] * 4


def test_another_of_the_same_name_is_not_it(main):
    step = main.Step
    with names.shared_with(Has(Step=step)):
        main.Step = type("Step", (), {"__module__": "__main__"})
        assert not names.is_shared(main.Step)
        assert not names.is_shared(step)


def test_a_message_has_names_for_what_is_shared_and_the_whole_class_for_what_is_not(main):
    with names.shared_with(Has(Step=main.Step)):
        by_name = codec.encode([main.Step()], "a test")
        assert by_name.body == pickle.dumps([main.Step()], 5)
        assert len(codec.encode([main.Step(), main.function], "a test").body) > 3 * len(by_name.body)
    assert len(codec.encode([main.Step()], "a test").body) > 3 * len(by_name.body)


def test_what_pickle_refuses_is_sent_beside_what_the_others_do_not_have(main):
    # Given a function of another module that has no name there
    def local():
        pass

    with names.shared_with(Has()):
        function, made = codec.decode(codec.encode([local, main.Step()], "a test").body)
    assert (type(made), function()) == (main.Step, None)


def test_a_class_sent_by_value_is_filled_by_its_first_arrival_only(main):
    # Given a class that others do not have, and one of whose attributes is changed where it arrived
    stream = codec.encode(main.Step(), "a test").body
    code = f"""if True:
        import sys
        from kourou.courier.wire import codec
        stream = {stream!r}
        first = codec.decode(stream)
        type(first).count = 5
        second = codec.decode(stream)
        print(type(first) is type(second), second.count)
    """
    # When another instance arrives, then the attribute is as it was left
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 5\n"
