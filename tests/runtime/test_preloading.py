"""What processes are forked with: chosen by the plan, imported by a zygote that makes sure that it can be forked."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

import kourou as lp
from kourou.runtime.plan import preloading
from kourou.runtime.plan.preloading import choose
from optional import is_there


def use_arrays(count):
    return np.zeros(count)


@pytest.fixture
def plan(monkeypatch):
    """Compiles a program of several nodes of a function; what each is forked with."""

    def make(function, *arguments, nodes=2, on_failure: Any = "fail", **options):
        program = lp.Program("p")
        with program.group("node", on_failure=on_failure):
            for _ in range(nodes):
                program.add_node(lp.PyNode(function, *arguments))
        compiled = lp.compile_program(program, "local_mp", **options)
        (found,) = {node.process.preload for node in compiled.nodes if node.process}
        return found

    return make


def test_nodes_are_forked_with_what_several_of_them_import(plan):
    assert plan(use_arrays, 3) == ("numpy",)
    assert plan(use_arrays, 3, nodes=1) == ()
    assert plan(use_arrays, 3, nodes=1, on_failure=lp.Restart()) == ("numpy",)
    assert plan(len, "text") == ()
    assert plan(len, np.zeros(3)) == ("numpy",)


def test_a_script_brings_along_what_its_needed_globals_import(plan, monkeypatch):
    # Given a script of which one function uses NumPy through another global, and the other does not.
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("import numpy as np\ndef draw():\n return np.ones(3)\ndef use():\n draw()\ndef idle():\n pass", vars(main))
    assert plan(main.use) == ("numpy",)
    assert plan(main.idle) == ()


def test_a_label_says_what_its_nodes_are_forked_with(plan):
    assert plan(len, "", local_resources={"node": lp.PythonProcess(preload=["json.tool", "csv"])}) == (
        "json.tool",
        "csv",
    )
    assert plan(use_arrays, 3, local_resources={"node": lp.PythonProcess(preload=())}) == ()
    for wrong in ("numpy", [3], ["not a module"], 7):
        with pytest.raises(lp.errors.GraphError, match=r"preload is a list of names of modules"):
            lp.PythonProcess(preload=wrong)  # type: ignore[arg-type]


def test_what_a_setup_does_comes_before_imports(plan):
    assert plan(use_arrays, 3, setup=print) == ()
    assert plan(use_arrays, 3, setup=print, local_resources={"node": lp.PythonProcess(preload=["numpy"])}) == ("numpy",)


def test_a_users_file_is_no_library(tmp_path, monkeypatch):
    # Given a script's folder with a file of the library's name.
    (tmp_path / "torch.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not preloading.installed("torch")
    assert preloading.installed("numpy")


def test_who_needs_no_torch_does_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(preloading, "installed", lambda _: True)
    chosen = choose(
        {
            "learner/0": {"torch", "numpy"},
            "learner/1": {"torch", "numpy"},
            "actor/0": {"numpy", "gymnasium"},
            "actor/1": {"numpy"},
            "sink/0": set(),
        },
        restarting=(),
    )
    assert chosen == {
        **dict.fromkeys(("learner/0", "learner/1"), ("numpy", "torch")),
        **dict.fromkeys(("actor/0", "actor/1", "sink/0"), ("numpy",)),
    }


@pytest.mark.skipif(not is_there("torch"), reason="torch is not installed")
def test_types_of_nodes_say_what_they_import_themselves():
    program = lp.Program("p")
    program.add_node(lp.TorchNode(print, 2), label="ranks")
    preloads = [node.process.preload for node in lp.compile_program(program, "local_mp").nodes if node.process]
    assert preloads == [("torch",), ("torch",)]


def test_nodes_are_forked_with_what_their_clients_import():
    # Given nodes whose code names no library, with handles that become clients of replay and weights
    program = lp.Program("p")
    replay, weights = program.add_node(lp.ReplayNode(list), label="r"), program.add_node(lp.WeightsNode(), label="w")
    with program.group("actor"):
        for _ in range(2):
            program.add_node(lp.PyNode(print, {"clients": [replay, weights]}))
    # When it is compiled
    compiled = lp.compile_program(program, "local_mp")
    # Then they, and the servers, find those imported
    found = {node.process.preload for node in compiled.nodes if node.process}
    assert found == {("kourou.replay", "kourou.weights", "numpy")}
