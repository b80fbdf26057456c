"""PyNode and PyClassNode."""

from __future__ import annotations

import abc
import functools
import inspect

import kourou as lp
from optional import pytest
from polling import WAIT_S

LAUNCH_TYPES = ["local_mt", "local_mp"]
QUICK = lp.StopTimeline(ask_s=0.5, interrupt_s=0.5, terminate_s=0.5)

pytestmark = pytest.mark.usefixtures("no_leaks")


class WithRun:
    def __init__(self, word):
        self.word = word
        print("constructed", word)

    def run(self):
        print("ran", self.word)


class WithoutRun:
    def __init__(self):
        print("constructed only")


class Caller:
    """An object that can be called, as a constructor or a function."""

    def __call__(self, word="default"):
        print("called", word)


def _run(launch_type, **nodes):
    """The lines of each node of a program that ends by itself."""
    program = lp.Program("nodes")
    for label, node in nodes.items():
        program.add_node(node, label=label)
    run = lp.launch(program, launch_type, terminal="output_to_files")
    run.wait(timeout_s=WAIT_S)
    logs = {label: run.folder / "logs" / label / "0.log" for label in nodes}
    return {label: log.read_text(encoding="utf-8").splitlines() if log.exists() else [] for label, log in logs.items()}


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_functions_and_objects_run(launch_type):
    disabled = lp.PyClassNode(WithRun, "disabled")
    disabled.disable_run()
    enabled = lp.PyClassNode(WithRun, "enabled")
    enabled.disable_run()
    enabled.enable_run()
    configured = lp.PyClassNode(WithRun)
    configured.configure(word="configured")
    lines = _run(
        launch_type,
        function=lp.PyNode(print, "hello", sep=""),
        partial=lp.PyNode(functools.partial(print, "one"), "two"),
        callable=lp.PyNode(Caller(), word="given"),
        lambda_=lp.PyNode(lambda: print("lambda")),
        disabled=disabled,
        enabled=enabled,
        configured=configured,
        norun=lp.PyClassNode(WithoutRun),
        deferred=lp.PyNode(print, lp.Deferred(str, 7), [lp.Deferred(int, "8")]),
        factory=lp.PyClassNode(functools.partial(WithRun, word="factory")),
    )
    assert lines["function"] == ["hello"]
    assert lines["partial"] == ["one two"]
    assert lines["callable"] == ["called given"]
    assert lines["lambda_"] == ["lambda"]
    assert lines["disabled"] == ["constructed disabled"]
    assert lines["enabled"] == ["constructed enabled", "ran enabled"]
    assert lines["configured"] == ["constructed configured", "ran configured"]
    assert lines["norun"][0] == "constructed only"
    assert lines["deferred"] == ["7 [8]"]
    assert lines["factory"] == ["constructed factory", "ran factory"]


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_deferred_that_fails_fails_its_node_and_says_where_it_was_written(launch_type):
    program = lp.Program("deferred")
    program.add_node(lp.PyNode(print, lp.Deferred(int, "no number")), label="node")
    with pytest.raises(lp.errors.ProgramFailed, match="invalid literal for int") as caught:
        lp.launch(program, launch_type, stop_timeline=QUICK).wait(timeout_s=WAIT_S)
    assert "test_python.py" in str(caught.value)


@pytest.mark.parametrize("make", [lp.PyNode, lp.PyClassNode, lp.CourierNode])
def test_what_cannot_be_called_is_refused_at_once(make):
    with pytest.raises(
        TypeError, match=f"{make.__name__} takes a function or a class first, not what it returns; got 'text'"
    ):
        make("text")


def test_nodes_describe_themselves():
    assert lp.PyNode(print).describe() == "PyNode(print)"
    assert lp.PyClassNode(WithRun, 1).describe() == "PyClassNode(WithRun)"
    assert lp.CourierNode(functools.partial(WithRun, 1)).describe() == "CourierNode(WithRun)"
    assert lp.PyNode(Caller()).describe() == "PyNode(Caller)"


def test_the_context_of_a_node_says_where_it_runs(tmp_path):
    def tell(path):
        context = lp.get_context()
        words = [context.name, context.label, context.index, context.program, context.launch_type, context.attempt]
        path.write_text(" ".join(map(str, words)), encoding="utf-8")

    for launch_type in LAUNCH_TYPES:
        program = lp.Program("context")
        with program.group("a b"):
            program.add_node(lp.PyNode(tell, tmp_path / "first"))
            program.add_node(lp.PyNode(tell, tmp_path / "second"))
        lp.launch(program, launch_type).wait(timeout_s=WAIT_S)
        assert (tmp_path / "second").read_text(encoding="utf-8") == f"a b/1 a b 1 context {launch_type} 1"
    with pytest.raises(lp.errors.NotInProgram):
        lp.get_context()


class Custom(lp.Node):
    """A node type of a user's own, defined outside of the package."""

    def __init__(self, word):
        self.word = word

    def run(self, context):
        context.publish(state=lp.NodeState.READY)
        print(context.name, self.word)


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_node_type_of_a_user_s_own_takes_part(launch_type):
    assert _run(launch_type, own=Custom("hello")) == {"own": ["own/0 hello"]}


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_unpicklable_arguments_of_a_custom_node_are_found(launch_type):
    program = lp.Program("custom")
    program.add_node(Custom([print, iter(())]), label="own")  # an iterator can be pickled; a generator cannot
    program.add_node(Custom({"g": (x for x in "")}), label="bad")
    if launch_type == "local_mt":
        lp.compile_program(program, launch_type)
        return
    with pytest.raises(lp.errors.PlanError, match=r"bad/0 word\['g'\] cannot be pickled"):
        lp.compile_program(program, launch_type)


class Worker:
    def __init__(self, name, scale=1):
        self.name = name


def act(learner, *, seed):
    pass


def gives_rng(function):
    @functools.wraps(function)
    def with_rng(*args, **kwargs):
        return function(0.5, *args, **kwargs)

    return with_rng


@gives_rng
def draw(rng, count):
    pass


class Injected:
    @gives_rng
    def __init__(self, rng, count):
        pass


class Says:
    """As pydantic's models: by alias in the signature, and by name all the same."""

    __signature__ = inspect.Signature([inspect.Parameter("alias", inspect.Parameter.KEYWORD_ONLY)])

    def __init__(self, **fields):
        pass


class Policy(abc.ABC):
    @abc.abstractmethod
    def act(self): ...


class Chosen(Policy):
    def __new__(cls):
        return object.__new__(Greedy)


class Greedy(Chosen):
    def act(self):
        return 1


NOT_TAKEN = {
    "abstract": (lambda: lp.CourierNode(Policy), "Policy is an abstract class, without act: give a subclass"),
    "missing": (lambda: lp.PyNode(act, 1), "act is called with other arguments than it takes: missing .*'seed'"),
    "self": (lambda: lp.PyNode(Worker.__init__, name="x"), "Worker.__init__ is .* missing .*'self'"),
    "partial": (lambda: lp.PyNode(functools.partial(act, seed=1)), "act is .* missing .*'learner'"),
    "class": (lambda: lp.PyClassNode(Worker, "x", 2, 3), "Worker is .*: too many positional arguments"),
    "keyword": (
        lambda: lp.CourierNode(Worker, "x", scael=2),
        "Worker is .*unexpected keyword argument 'scael'",
    ),
    "server": (
        lambda: lp.CourierNode(Worker, "x", courier_kwargs={"threads": 1}),
        "courier_kwargs: .*unexpected keyword argument 'threads'",
    ),
    "threads": (
        lambda: lp.CourierNode(Worker, "x", courier_kwargs={"thread_pool_size": "1"}),
        "courier_kwargs: thread_pool_size is a whole number of at least 1, got '1'",
    ),
    "port": (
        lambda: lp.CourierNode(Worker, "x", courier_kwargs={"port": 1 << 16}),
        "courier_kwargs: port is a whole number from 0 to 65535",
    ),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_arguments_that_are_not_taken_are_told_before_anything_starts(case):
    make, told = NOT_TAKEN[case]
    program = lp.Program("arguments")
    program.add_node(make(), label="node")
    with pytest.raises(lp.errors.PlanError, match=f"^node/0: {told}"):
        lp.compile_program(program, "local_mp")


def test_arguments_that_a_decorator_adds_and_signatures_that_are_only_written_are_nobodys_mistake():
    program = lp.Program("arguments")
    learner = program.add_node(lp.CourierNode(Worker, "x", courier_kwargs={"thread_pool_size": 2}), label="learner")
    for node in (
        lp.PyNode(act, learner, seed=1),
        lp.PyNode(functools.partial(act, seed=1), learner),
        lp.PyNode(draw, 3),
        lp.PyNode(print, learner, end=""),
        lp.PyClassNode(Injected, 3),
        lp.PyClassNode(Says, name=3),
        lp.PyClassNode(dict, [(1, 2)]),
        lp.PyClassNode(Chosen),
        lp.PyClassNode(Greedy),
    ):
        program.add_node(node, label="node")
    lp.compile_program(program, "local_mp")
