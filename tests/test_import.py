"""``import kourou`` is cheap: every node process pays for it, and so does every script that only looks at a plan."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ["IPython", "gymnasium", "jax", "matplotlib", "numpy", "pandas", "ray", "scipy", "tensorflow", "torch"]
ROUNDS = 5
TIMES_GRPC = 1.5


def in_a_fresh_interpreter(code: str) -> str:
    # Without its compiled files a module takes as long to compile as to import, and a user's interpreter has them.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def seconds_to_import(module: str) -> float:
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(in_a_fresh_interpreter(code))


@pytest.mark.parametrize("module", ["kourou", "kourou.courier", "kourou.runtime", "kourou.cli"])
def test_no_heavy_package_comes_along(module: str) -> None:
    loaded = in_a_fresh_interpreter(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not {name.partition(".")[0] for name in loaded}.intersection(HEAVY)


def test_kourou_alone_does_not_load_grpc() -> None:
    loaded = in_a_fresh_interpreter("import sys, kourou; print(*sys.modules)").split()
    assert "grpc" not in loaded


def test_it_takes_about_as_long_as_grpc() -> None:
    # The fastest of some rounds taken in turn: what slows one down on a busy machine slows the other down as well.
    pairs = [(seconds_to_import("kourou"), seconds_to_import("grpc")) for _ in range(ROUNDS)]
    kourou_s, grpc_s = (min(column) for column in zip(*pairs, strict=True))
    assert kourou_s <= TIMES_GRPC * grpc_s


def test_a_launch_imports_nothing_that_few_programs_need() -> None:
    # asyncio takes as long as a quarter of all else; who awaits something has imported it.
    code = "import sys, kourou as lp; lp.CourierNode, lp.CacherNode, lp.launch; print(*sys.modules)"
    assert not {"asyncio", "grpc", "psutil", "ssl"}.intersection(in_a_fresh_interpreter(code).split())


def test_a_zygote_is_started_before_what_compiles_a_program_is_imported() -> None:
    # It imports what nodes need while the launcher imports the rest.
    code = (
        "import sys, kourou as lp; lp.Program, lp.CourierNode, lp.PyNode, lp.launch; "
        "import kourou.runtime.process.supervisor; print(*sys.modules)"
    )
    later = {"cloudpickle", "kourou.runtime.model.hosts", "kourou.runtime.plan.compile"}
    assert not later.intersection(in_a_fresh_interpreter(code).split())


def test_a_program_is_compiled_before_what_directs_or_serves_it_is_imported() -> None:
    code = (
        "import sys, kourou as lp; program = lp.Program('p'); "
        "program.add_node(lp.CourierNode(object), label='n'); "
        "lp.compile_program(program, 'local_mp'); lp.launch; print(*sys.modules)"
    )
    later = {
        "kourou.courier.client",
        "kourou.courier.server",
        "kourou.runtime.control.coordinator",
        "kourou.runtime.graph.topology",
        "kourou.runtime.launch.director",
        "kourou.runtime.model.engine_options",
    }
    loaded = in_a_fresh_interpreter(code).split()
    assert "kourou.runtime.plan.compile" in loaded
    assert not later.intersection(loaded)


def test_what_runs_in_a_node_is_imported_before_it_is_forked() -> None:
    code = (
        "import importlib, sys, kourou.runtime.process.zygote; from kourou.runtime.process import preload; "
        "[*map(importlib.import_module, preload.NODES.modules)]; before = {*sys.modules}; "
        "import kourou as lp, kourou.nodes; lp.stop, lp.wait_for_stop, lp.checkpoint_dir, lp.log, lp.get_context; "
        "[getattr(m, n) for m in (kourou.nodes, lp.courier) for n in m.__all__]; "
        "import kourou.runtime.node_process.serving, kourou.runtime.node_process.checkpointing; "
        "print(*sorted({*sys.modules} - before))"
    )
    assert in_a_fresh_interpreter(code).split() == []


def test_a_node_of_processes_has_no_grpc_until_somebody_needs_it() -> None:
    # It takes asyncio and ssl along, which is a quarter of all that each node would have in its memory.
    code = (
        "import importlib, sys; from kourou.runtime.process.preload import NODES; "
        "[*map(importlib.import_module, NODES.modules)]; print(*sys.modules)"
    )
    loaded = in_a_fresh_interpreter(code).split()
    assert "kourou.runtime.node_process.main" in loaded
    assert not {"asyncio", "grpc", "hpack", "multiprocessing.connection", "shutil", "ssl", "tempfile"}.intersection(
        loaded
    )


def test_runs_are_listed_and_logs_shown_without_what_asks_a_live_run() -> None:
    loaded = in_a_fresh_interpreter(
        "import sys, kourou.cli.status.ps, kourou.cli.status.logs; print(*sys.modules)"
    ).split()
    asking = {"google.protobuf", "asyncio", "kourou.courier.client", "kourou.runtime.monitoring.remote_run"}
    assert not asking.intersection(loaded)


def test_the_command_line_reaches_a_run_without_grpc() -> None:
    code = "import sys, kourou.cli.app, kourou.runtime.monitoring.remote_run; print(*sys.modules)"
    assert "grpc" not in in_a_fresh_interpreter(code).split()
