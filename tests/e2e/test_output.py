"""What nodes print: whole, in order, prefixed, complete even after a crash."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap

import kourou as lp
from e2e.launching import PRELUDE
from optional import pytest
from polling import WAIT_S, until

LINES = 20_000


def _launch(launch_type, *functions, **options):
    program = lp.Program("output")
    for function in functions:
        program.add_node(lp.PyNode(function), label=function.__name__)
    run = lp.launch(program, launch_type, **options)
    run.wait(timeout_s=WAIT_S, raise_error=False)
    return run


def _log(run, label):
    return (run.folder / "logs" / label / "0.log").read_bytes()


def pieces():
    for i in range(200):
        print("piece", end=" ")
        print(i, end="")
        sys.stdout.write(" of ")
        print("pieces")


def both_streams():
    for i in range(200):
        print("out", i)
        print("err", i, file=sys.stderr)


def no_newline():
    print("first")
    print("no newline at the end", end="")


def long_line():
    print("start" + "x" * 1_000_000 + "end")
    print("after")


def binary():
    os.write(1, bytes(range(256)) + b"\n\xff\xfe\x00 garbage\n")
    os.write(1, b"\r 10%\r 50%\r100%\n")
    os.write(1, b"dos line\r\n")


def unprintable():
    print("lone \udcff surrogate")
    print("東京 🚀")


def crash():
    for i in range(LINES):
        print("line", i)
    os._exit(1)


class Odd:
    def flush(self):
        raise RuntimeError("flushed")

    def write(self, text):
        raise RuntimeError(text)


def streams_put_away():
    print("before")
    sys.stdout, sys.stderr = None, Odd()


def of_a_child():
    subprocess.run([sys.executable, "-S", "-c", "print('from a child')"], check=True)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One program of processes that print in every way, and what the terminal got."""
    runs = tmp_path_factory.mktemp("output")
    source = runs / "launcher.py"
    code = f"""
import kourou as lp
from e2e import test_output as t
program = lp.Program("output")
functions = t.pieces, t.both_streams, t.no_newline, t.long_line, t.binary, t.unprintable, t.of_a_child
for function in (*functions, t.streams_put_away):
    program.add_node(lp.PyNode(function), label=function.__name__)
with program.group("crash", on_failure="ignore"):
    program.add_node(lp.PyNode(t.crash))
run = lp.launch(program, "local_mp", run_dir={str(runs)!r})
run.wait()
"""
    source.write_text(code, encoding="utf-8")
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - a string is needed
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, source], capture_output=True, timeout=WAIT_S, env=env, check=True)
    (folder,) = runs.glob("output-*")
    return folder, done.stdout.decode().removesuffix("\n").split("\n"), done.stderr.decode()


def _terminal(processes, label):
    prefix = f"[{label}/0] "
    return [line.removeprefix(prefix) for line in processes[1] if line.startswith(prefix)]


def test_lines_of_several_writes_stay_whole_and_in_order(processes):
    assert _terminal(processes, "pieces") == [f"piece {i} of pieces" for i in range(200)]
    assert _terminal(processes, "both_streams") == [f"{name} {i}" for i in range(200) for name in ("out", "err")]


def test_every_line_of_the_terminal_has_its_node_in_front(processes):
    _, lines, errors = processes
    assert errors == ""
    assert not [line for line in lines if not line.startswith("[")]


def test_a_line_without_newline_at_the_exit_is_not_lost(processes):
    assert _terminal(processes, "no_newline") == ["first", "no newline at the end"]


def test_a_line_of_a_megabyte_arrives_complete(processes):
    # It may be cut in pieces, so that a node that prints no newline costs no memory; nothing of it is lost.
    *parts, after = _terminal(processes, "long_line")
    assert after == "after"
    assert "".join(parts) == "start" + "x" * 1_000_000 + "end"


def test_binary_garbage_and_progress_bars_become_text(processes):
    lines = _terminal(processes, "binary")
    assert " garbage" in "\n".join(lines)
    assert "100%" in lines
    assert " 10%" not in "\n".join(lines)
    assert "dos line" in lines


def test_text_of_all_languages_and_of_none_is_printed(processes):
    lines = _terminal(processes, "unprintable")
    assert lines[1] == "東京 🚀"
    assert "surrogate" in lines[0]


def test_twenty_thousand_lines_are_complete_after_a_crash(processes):
    folder, _, _ = processes
    wanted = [f"line {i}" for i in range(LINES)]
    *lines, consequence = _terminal(processes, "crash")
    assert lines == wanted
    assert consequence.startswith("kourou: exited with code 1 (attempt 1, after ")
    log = (folder / "logs" / "crash" / "0.log").read_text(encoding="utf-8").splitlines()
    assert log == [*wanted, consequence]


def test_a_node_may_put_any_thing_in_the_place_of_its_streams(processes):
    # launcher.py would have ended with ProgramFailed
    assert _terminal(processes, "streams_put_away") == ["before"]


def test_what_a_node_s_child_prints_is_the_node_s(processes):
    assert _terminal(processes, "of_a_child") == ["from a child"]


def test_no_colours_outside_of_a_terminal(processes):
    assert "\x1b" not in "\n".join(line for line in processes[1] if not line.startswith("[binary"))


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_colours_on_a_terminal_unless_no_color_is_set(env, coloured, tmp_path):
    # Given a launcher on a terminal.
    script = tmp_path / "launcher.py"
    script.write_text(
        PRELUDE
        + "p = lp.Program('c')\np.add_node(lp.PyNode(print, 'hello'), label='node')\nlp.launch(p, 'local_mt').wait()\n",
        encoding="utf-8",
    )
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | env
    try:
        # When a node prints.
        subprocess.run([sys.executable, script], stdout=theirs, env=environment, timeout=WAIT_S, check=True)
        # Then its prefix is coloured unless the user does not want it.
        text = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("\x1b[" in text) is coloured
    assert "hello" in text


def test_threads_print_like_processes(capfd):
    run = _launch("local_mt", pieces, both_streams, no_newline)
    printed = capfd.readouterr().out.splitlines()
    wanted = {
        "pieces": [f"piece {i} of pieces" for i in range(200)],
        "no_newline": ["first", "no newline at the end"],
    }
    for label, lines in wanted.items():
        prefix = f"[{label}/0] "
        assert [line.removeprefix(prefix) for line in printed if line.startswith(prefix)] == lines
        assert _log(run, label).decode().splitlines() == lines
    streams = _log(run, "both_streams").decode().splitlines()
    assert sorted(streams) == sorted(f"{name} {i}" for i in range(200) for name in ("out", "err"))


def test_the_launcher_s_own_prints_are_left_alone_while_threads_run(capsys):
    program = lp.Program("own")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="node")
    before = sys.stdout
    with lp.launch(program, "local_mt"):
        print("the launcher says")
    assert sys.stdout is before
    assert capsys.readouterr().out == "the launcher says\n"


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_output_to_files_leaves_the_terminal_alone(launch_type, capfd):
    run = _launch(launch_type, no_newline, terminal="output_to_files")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert _log(run, "no_newline") == b"first\nno newline at the end\n"


CHATTY = """
    import itertools

    def chatty():
        for number in itertools.count():
            print(number, "x" * 1000)
            if lp.wait_for_stop(0):
                return

    program = lp.Program("chatty")
    program.add_node(lp.PyNode(chatty), label="chatty")
    lp.launch(program, "{launch_type}").wait()
"""


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_ctrl_c_ends_a_program_whose_output_nobody_reads_and_its_log_is_complete(launch_type, tmp_path, runs_dir):
    # Given a launcher that writes into a pipe that is never read, with its errors, as before `2>&1 | less`
    script = tmp_path / "launcher.py"
    script.write_text(PRELUDE + textwrap.dedent(CHATTY.format(launch_type=launch_type)), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as launcher:
        until(lambda: sum(log.stat().st_size for log in runs_dir.glob("*/output.log")) > 1 << 20, WAIT_S)
        # When
        launcher.send_signal(signal.SIGINT)
        # Then
        try:
            assert launcher.wait(WAIT_S) == 128 + signal.SIGINT
        finally:
            launcher.kill()
    (log,) = runs_dir.glob("*/logs/chatty/0.log")
    numbers = [int(line.split()[0]) for line in log.read_text(encoding="utf-8").splitlines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 1000
