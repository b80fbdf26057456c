"""The user's own script: its nodes have its ``__main__``, without running its top level again."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from e2e.launching import BOTH, run_as
from optional import is_there

pytestmark = pytest.mark.usefixtures("no_leaks", "runs_dir")

RAISES = """
    import kourou as lp

    class Env:
        def step(self, action):
            return {"left": 1}[action]

    class Server:
        def act(self, action):
            return Env().step(action)

    def work(server):
        import inspect
        print("source:", inspect.getsource(Env.step).split()[0])
        server.act("right")

    program = lp.Program("raises")
    server = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(work, server), label="work")
    lp.launch(program, KIND).wait()
"""


@BOTH
def test_tracebacks_and_inspect_know_the_script(tmp_path, kind):
    said = run_as(tmp_path, kind, RAISES, code=1)
    # Both sides of the call, by the script's own file, with its lines.
    assert "source: def" in said
    assert f'File "{tmp_path / "launcher.py"}", line' in said
    assert 'return {"left": 1}[action]' in said
    assert 'server.act("right")' in said
    assert "dynamic-code" not in said


def test_code_given_on_the_command_line_is_shown_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "KIND = 'local_mp'\n" + textwrap.dedent(RAISES), "argument"],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
    )
    assert 'return {"left": 1}[action]' in done.stderr
    assert "source: def" in done.stdout


def test_a_script_run_as_a_module_keeps_its_package(tmp_path):
    # Given a module that is started with python -m, and imports relatively in its node
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "pack/beside.py").write_text("ANSWER = 42\n")
    (tmp_path / "pack/train.py").write_text(
        textwrap.dedent("""
            import kourou as lp

            def work():
                from .beside import ANSWER
                import __main__
                print("it is", ANSWER, __main__.__spec__.name)

            program = lp.Program("module")
            program.add_node(lp.PyNode(work), label="work")
            lp.launch(program, "local_mp").wait()
        """)
    )
    # When it runs, then so does its node
    done = subprocess.run(
        [sys.executable, "-m", "pack.train"], capture_output=True, text=True, timeout=50, cwd=tmp_path, check=False
    )
    assert "it is 42 pack.train" in done.stdout, done.stderr


@BOTH
def test_what_the_script_defines_is_found_by_whatever_pickles_by_name(tmp_path, kind):
    said = run_as(
        tmp_path,
        kind,
        """
        import dataclasses, functools, io, multiprocessing, pickle
        import kourou as lp

        print("top level", flush=True)

        @dataclasses.dataclass
        class Step:
            x: int

        @functools.cache
        def cached(x):
            return Step(x)

        class Holder:
            @functools.cached_property
            def model(self):
                return 5

            @functools.lru_cache
            def policy(self):
                return 6

        def child(queue):
            queue.put((Step(1), cached(2), __name__))

        def work():
            assert pickle.loads(pickle.dumps(Step(3))) == Step(3)
            assert (cached(1), Holder().model, Holder().policy()) == (Step(1), 5, 6)
            for method in multiprocessing.get_all_start_methods():
                context = multiprocessing.get_context(method)
                queue = context.SimpleQueue()
                started = context.Process(target=child, args=(queue,))
                started.start()
                assert queue.get() == (Step(1), Step(2), "__main__"), method
                started.join()
            print("all found")

        program = lp.Program("names")
        program.add_node(lp.PyNode(work), label="work")
        lp.launch(program, KIND).wait()
        """,
    )
    assert "all found" in said
    assert said.count("top level") == 1  # neither nodes nor their children ran it again, without any guard


@pytest.mark.skipif(not is_there("torch"), reason="torch is not installed")
@pytest.mark.parametrize(
    ("kind", "workers", "methods"),
    [
        pytest.param("local_mp", 1, ["spawn"], marks=pytest.mark.long),
        pytest.param("local_mp", 1, ["fork", "spawn", "forkserver"], marks=pytest.mark.soak),
        pytest.param("local_mt", 2, ["fork", "spawn", "forkserver"], marks=pytest.mark.soak),
    ],
)
def test_data_loaders_of_every_start_method_and_torch_save(tmp_path, kind, workers, methods):
    said = run_as(
        tmp_path,
        kind,
        f"WORKERS, METHODS = {workers}, {methods}\n"
        + textwrap.dedent("""
        import numpy as np
        import torch
        from torch.utils.data import DataLoader
        import kourou as lp
        from kourou import replay
        from kourou.replay.dataset import ReplayDataset

        class Net(torch.nn.Linear):
            pass

        def tables():
            uniform, fifo = replay.selectors.Uniform(), replay.selectors.Fifo()
            return [replay.Table("t", uniform, fifo, 99, replay.rate_limiters.MinSize(1))]

        def work(client):
            client.insert({"x": np.zeros(3, "f4")}, {"t": 1.0})
            torch.save(Net(2, 2), "model.pt")
            assert type(torch.load("model.pt", weights_only=False)) is Net
            for method in METHODS:
                data = ReplayDataset(client, "t", 4)
                loader = DataLoader(data, batch_size=None, num_workers=WORKERS, multiprocessing_context=method)
                batches = iter(loader)
                print(method, next(batches).data["x"].shape)
                del batches
            raise ValueError("the end")

        os.chdir(os.path.dirname(__file__))
        program = lp.Program("loads")
        tables = program.add_node(lp.ReplayNode(tables), label="replay")
        program.add_node(lp.PyNode(work, tables), label="work")
        lp.launch(program, KIND).wait()
        """),
        code=1,
        within_s=170,
    )
    assert [f"{method} torch.Size([4, 3])" in said for method in methods] == [True] * len(methods)
    assert 'raise ValueError("the end")' in said


@BOTH
def test_a_class_that_is_there_is_neither_copied_nor_reset(tmp_path, kind):
    said = run_as(
        tmp_path,
        kind,
        """
        import collections
        import kourou as lp

        Pair = collections.namedtuple("Pair", "a b")

        class Step:
            seen = 0

        class Server:
            def take(self, step, pair):
                assert type(step) is Step and type(pair) is Pair
                Step.seen += 1
                return Step.seen, step, pair

        def work(server):
            for count in (1, 2, 3):
                seen, step, pair = server.take(Step(), Pair(1, 2))
                assert (seen, type(step), type(pair)) == (count, Step, Pair)

        program = lp.Program("identity")
        handle = program.add_node(lp.CourierNode(Server), label="server")
        program.add_node(lp.PyNode(work, handle), label="work")
        run = lp.launch(program, KIND)
        run.wait(["work"])
        server = handle.dereference()
        _, step, pair = server.take(Step(), Pair(1, 2))
        print("in the launcher", type(step) is Step, type(pair) is Pair)

        def make_local():
            class Local:
                changed = "no"
            return Local

        Local = make_local()
        class Late:
            pass
        class Echo:
            def back(self, value):
                return value
        # What the nodes do not have by name still travels, and comes back as what it was.
        Local.changed = "yes"
        server = None
        run.stop()
        other = lp.Program("other")
        handle = other.add_node(lp.CourierNode(Echo), label="echo")
        run = lp.launch(other, KIND)
        echo = handle.dereference()
        del Late
        class Late:
            new = True
        for cls in (Local, Late):
            assert type(echo.back(cls())) is cls, cls
        print("and what they do not have", Local.changed)
        run.stop()
        """,
    )
    assert "in the launcher True True" in said
    assert "and what they do not have yes" in said


@BOTH
def test_globals_that_share_parts_still_do_in_a_node(tmp_path, kind):
    said = run_as(
        tmp_path,
        kind,
        """
        import kourou as lp

        table = {"w": [0.0]}
        optimizer = [table["w"]]

        def step():
            optimizer[0][0] += 1.0

        def work():
            step()
            print("the table has", table)

        program = lp.Program("shared")
        program.add_node(lp.PyNode(work), label="work")
        lp.launch(program, KIND).wait()
        """,
    )
    assert "the table has {'w': [1.0]}" in said


def test_a_node_imports_what_its_own_code_needs_and_no_more(tmp_path):
    (tmp_path / "heavy.py").write_text("print('heavy is imported', flush=True)\n\nclass Base:\n    pass\n")
    said = run_as(
        tmp_path,
        "local_mp",
        """
        import heavy
        import kourou as lp

        class Model(heavy.Base):
            pass

        def light(echo):
            assert "heavy" not in sys.modules
            print("light is done", type(echo.model()).__name__, "heavy" in sys.modules)
            lp.stop()

        class Heavy:
            def model(self):
                return Model()

        program = lp.Program("lazy")
        echo = program.add_node(lp.CourierNode(Heavy), label="heavy")
        program.add_node(lp.PyNode(light, echo), label="light")
        lp.launch(program, KIND).wait()
        """,
    )
    # What arrives later brings what it needs.
    assert "light is done Model True" in said
