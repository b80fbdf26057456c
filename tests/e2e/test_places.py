"""Programs can be launched from anywhere: threads, consoles, children of multiprocessing, and without a main guard."""

from __future__ import annotations

import threading
import unittest

import kourou as lp
from e2e.launching import Script
from kourou import courier
from optional import pytest
from polling import WAIT_S, marked, until

LAUNCH_TYPES = ["local_mt", "local_mp"]

# Everything is defined in __main__, in the ways in which pickle by name fails.
IN_MAIN = """
    import dataclasses, enum, functools, typing

    class Base:
        def base(self):
            return "base"

    class Server(Base):
        class Inner:
            value = 3

        @staticmethod
        def double(x):
            return 2 * x

        def inner(self):
            return self.Inner.value

        def super(self):
            return super().base()

        def make(self):
            return Point(1, 2)

    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    class Colour(enum.Enum):
        RED = 1

    def client(server, double, point, colour):
        assert server.double(4) == double(4) == 8
        assert server.inner() == 3
        assert server.super() == "base"
        assert server.make() == point, (server.make(), point)
        assert colour is Colour.RED
        print("all of main travelled")
        lp.stop()

    program = lp.Program("in-main")
    server = program.add_node(lp.CourierNode(Server), label="server")
    node = lp.PyNode(client, server, lambda x: 2 * x, point=Point(1, 2), colour=Colour.RED)
    program.add_node(node, label="client")
"""


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_classes_functions_and_objects_of_main_travel_without_a_main_guard(launch_type, tmp_path):
    source = IN_MAIN + f"    say('launching'); lp.launch(program, {launch_type!r}).wait()\n"
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 0, launcher.errors
        assert "[client/0] all of main travelled" in launcher.lines
        assert launcher.lines.count("launching") == 1  # the script was not run again in the nodes


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_module_beside_the_script_is_found_in_the_nodes(launch_type, tmp_path):
    (tmp_path / "beside.py").write_text("def hello():\n    print('from beside')\n", encoding="utf-8")
    source = f"""
    import beside
    program = lp.Program("beside")
    program.add_node(lp.PyNode(beside.hello), label="node")
    lp.launch(program, {launch_type!r}).wait()
    """
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 0, launcher.errors
        assert "[node/0] from beside" in launcher.lines


CONSOLE = """
import kourou as lp
class Server:
    def ping(self):
        return "pong from a console"

program = lp.Program("console")
handle = program.add_node(lp.CourierNode(Server), label="server")
run = lp.launch(program, LAUNCH_TYPE)
print(handle.dereference().ping())
run.stop()
print(run.nodes["server/0"].state)
"""


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_console_can_launch(launch_type, tmp_path):
    # Given an interactive console, where code has no file.
    session = tmp_path / "session"
    session.write_text(CONSOLE.replace("LAUNCH_TYPE", repr(launch_type)), encoding="utf-8")
    source = f"""
    import code
    console = code.InteractiveConsole({{"__name__": "__main__"}})
    for line in open({str(session)!r}, encoding="utf-8"):
        console.push(line.rstrip())
    """
    # When a program is launched there, then that works.
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 0, launcher.errors
        launcher.expect("pong from a console")
        launcher.expect("FINISHED")


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_another_thread_than_the_main_one_can_launch_and_wait(launch_type):
    # Given a thread.
    outcome = []

    class Server:
        def ping(self):
            return "pong"

    def launch():
        program = lp.Program("in-a-thread")
        handle = program.add_node(lp.CourierNode(Server), label="server")
        with lp.launch(program, launch_type) as run:
            client = handle.dereference()
            outcome.append(client.ping())
            courier.close(client)
            lp.stop()
            run.wait(timeout_s=WAIT_S)

    # When it launches.
    thread = threading.Thread(target=launch)
    thread.start()
    thread.join(WAIT_S)
    # Then it can.
    assert not thread.is_alive()
    assert outcome == ["pong"]


def test_ctrl_c_stops_a_program_that_another_thread_launched(tmp_path, runs_dir):
    source = """
    def careful():
        say("running")
        try:
            idle()
        finally:
            print("cleaned up")

    def launch():
        program = lp.Program("thread")
        program.add_node(lp.PyNode(careful), label="node")
        lp.launch(program, "local_mp", stop_timeline=lp.StopTimeline(ask_s=0.1)).wait(raise_error=False)

    thread = threading.Thread(target=launch)
    thread.start()
    thread.join()
    """
    with Script(tmp_path, source) as launcher:
        launcher.expect("running")
        launcher.interrupt()
        assert launcher.end() != 0
        # Only the main thread can hear signals; the interpreter's own Ctrl-C ends it, and the exit stops the program.
    assert marked(runs_dir) == []


def ping_from_child(launch_type, queue):
    class Server:
        def ping(self):
            return "pong"

    program = lp.Program("in-a-child")
    handle = program.add_node(lp.CourierNode(Server), label="server")
    with lp.launch(program, launch_type) as run:
        client = handle.dereference()
        queue.put(client.ping())
        courier.close(client)
    queue.put(str(run.nodes["server/0"].state))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_child_of_multiprocessing_can_launch(method, launch_type, tmp_path, runs_dir):
    # Given a child that multiprocessing forked or spawned, of a process that has no other threads.
    source = f"""
    import multiprocessing
    import sys
    sys.path.insert(0, {str(__file__).rpartition("/e2e/")[0]!r})
    from e2e.test_places import ping_from_child
    if __name__ == "__main__":
        context = multiprocessing.get_context({method!r})
        queue = context.Queue()
        child = context.Process(target=ping_from_child, args=({launch_type!r}, queue))
        child.start()
        say("child said", queue.get(timeout=20), queue.get(timeout=20))
        child.join(20)
        sys.exit(child.exitcode)
    """
    # When it launches, then it can.
    with Script(tmp_path, source) as launcher:
        assert launcher.end(20) == 0, launcher.errors
        launcher.expect("child said pong FINISHED")
    assert marked(runs_dir) == []


def test_a_child_of_multiprocessing_that_is_killed_takes_its_program_along(tmp_path, runs_dir):
    source = """
    import multiprocessing

    def launch():
        program = lp.Program("in-a-child")
        program.add_node(lp.PyNode(idle), label="node")
        run = lp.launch(program, "local_mp")
        while run.nodes["node/0"].state is not lp.NodeState.READY:
            time.sleep(0.01)
        say("ready")
        run.wait()

    if __name__ == "__main__":
        child = multiprocessing.get_context("fork").Process(target=launch)
        child.start()
        while child.is_alive():
            time.sleep(0.01)
            if os.path.exists(__file__ + ".kill"):
                child.kill()
        say("killed")
    """
    with Script(tmp_path, source) as launcher:
        launcher.expect("ready")
        (tmp_path / "launcher.py.kill").touch()
        launcher.expect("killed")
        assert launcher.end() == 0
        until(lambda: marked(runs_dir) == [], WAIT_S)


def test_a_module_that_launches_when_it_is_imported_does_not_do_so_in_its_nodes(tmp_path, runs_dir):
    # Given a module without a main guard, whose functions are nodes.
    (tmp_path / "unguarded.py").write_text(
        "import kourou as lp\n"
        "def work():\n"
        "    print('works')\n"
        "program = lp.Program('unguarded')\n"
        "program.add_node(lp.PyNode(work), label='node')\n"
        "run = lp.launch(program, 'local_mp')\n"
    )
    # When a script imports it, then the node says what is wrong, instead of launching once more, and so on.
    with Script(tmp_path, "import unguarded; unguarded.run.wait()") as launcher:
        assert launcher.end(20) == 1
    assert "put that under if __name__ == '__main__'" in launcher.errors
    assert len(list(runs_dir.iterdir())) == 1
    assert marked(runs_dir) == []


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_locale_that_knows_ascii_only_takes_names_of_all_kinds(launch_type, tmp_path):
    source = f"""
    program = lp.Program("Köln")
    program.add_node(lp.PyNode(print, "東京"), label="größe 京")
    lp.launch(program, {launch_type!r}).wait()
    """
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with Script(tmp_path, source, env=env) as launcher:
        assert launcher.end(20) == 0, launcher.errors
        launcher.expect(r"\[gr\\xf6\\xdfe \\u4eac/0\] \\u6771\\u4eac")


class TestCase(unittest.TestCase):
    """Launchpad's way of testing."""

    def test_the_clean_up_of_a_test_case_stops_the_program(self):
        program = lp.Program("unittest")
        program.add_node(lp.PyNode(lp.wait_for_stop), label="node")
        runs = []

        class Inner(unittest.TestCase):
            def runTest(self):  # noqa: N802 - unittest's name
                runs.append(lp.launch(program, "test_mt", test_case=self))

        result = Inner().run()
        assert result is not None
        assert result.wasSuccessful()
        assert runs[0].ended
