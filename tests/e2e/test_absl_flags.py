"""A script written for Launchpad: abseil's flags are read by nodes, in the script and in modules beside it."""

from __future__ import annotations

import pytest

from e2e.launching import Script

pytestmark = pytest.mark.usefixtures("no_leaks", "runs_dir")

SCRIPT = """
from absl import app, flags
import beside

FLAGS = flags.FLAGS
RATE = flags.DEFINE_float("rate", 1.0, "set on the command line")
flags.DEFINE_integer("size", 2, "left at its default")
flags.DEFINE_multi_string("envs", ["none"], "given twice")
flags.DEFINE_string("set_in_main", None, "as main() decides")

class Server:
    def __init__(self, size):
        self.size = size
    def sizes(self):
        return self.size, FLAGS.size

def work(server):
    print("rate", FLAGS.rate, RATE.value, "sizes", *server.sizes(), "envs", FLAGS.envs, FLAGS.set_in_main)
    print("beside", beside.DEPTH.value, beside.DEBUG.value)
    lp.stop()

def main(_):
    FLAGS.set_in_main = "yes"
    program = lp.Program("flags")
    server = program.add_node(lp.CourierNode(Server, FLAGS.size), label="server")
    program.add_node(lp.PyNode(work, server), label="worker")
    resources = None if TYPE == "local_mt" else {"worker": lp.PythonProcess(args=ARGS)}
    lp.launch(program, TYPE, local_resources=resources).wait()

import sys
sys.argv += ["--rate=3", "--envs=a b", "--envs=c", "--depth=7", "--nodebug"]
if __name__ == "__main__":
    app.run(main)
"""

BESIDE = """
from absl import flags
DEPTH = flags.DEFINE_integer("depth", 1, "of a module")
DEBUG = flags.DEFINE_bool("debug", True, "of a module")
"""


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp", "test_mp"])
def test_nodes_read_the_flags_that_the_launcher_was_given(tmp_path, launch_type):
    (tmp_path / "beside.py").write_text(BESIDE)
    with Script(tmp_path, f"TYPE, ARGS = {launch_type!r}, {{}}\n{SCRIPT}") as launcher:
        assert launcher.end() == 0, launcher.errors
        launcher.expect(r"rate 3\.0 3\.0 sizes 2 2 envs \['a b', 'c'\] yes")
        launcher.expect(r"beside 7 False")


def test_a_label_s_own_arguments_are_flags_too_and_win(tmp_path):
    (tmp_path / "beside.py").write_text(BESIDE)
    with Script(tmp_path, f"TYPE, ARGS = 'local_mp', dict(rate=5, debug=True, size=4)\n{SCRIPT}") as launcher:
        assert launcher.end() == 0, launcher.errors
        launcher.expect(r"rate 5\.0 5\.0 sizes 2 2 envs \['a b', 'c'\] yes")
        launcher.expect(r"beside 7 True")


LAUNCH_TYPE = """
from absl import app, flags
import importlib, kourou
importlib.reload(kourou)  # as if it had been imported last
import sys
sys.argv += ARGS
FLAGS = flags.FLAGS

def tell():
    print("given", FLAGS.lp_launch_type, lp.get_context().launch_type)

def main(_):
    program = lp.Program("flags")
    program.add_node(lp.PyNode(tell), label="node")
    say("launcher", FLAGS.lp_launch_type)
    lp.launch(program, *LAUNCH).wait()

app.run(main)
"""


@pytest.mark.parametrize(
    ("args", "launch", "env", "kind"),
    [
        (["--lp_launch_type=local_mp"], (), {}, "local_mp"),
        (["--lp_launch_type=local_mp"], ("test_mt",), {}, "test_mt"),
        (["--lp_launch_type=local_mt"], (), {"KOUROU_LAUNCH_TYPE": "local_mp"}, "local_mt"),
        ([], (), {"KOUROU_LAUNCH_TYPE": "test_mp"}, "test_mp"),
        ([], (), {}, "local_mt"),
    ],
    ids=["flag", "argument", "flag-and-variable", "variable", "none"],
)
def test_launchpad_s_flag_chooses_the_launch_type(tmp_path, args, launch, env, kind):
    with Script(tmp_path, f"ARGS, LAUNCH = {args!r}, {launch!r}\n{LAUNCH_TYPE}", env=env) as launcher:
        assert launcher.end() == 0, launcher.errors
        launcher.expect(rf"node/0\] given .* {kind}$")


def test_launchpad_s_flag_is_checked(tmp_path):
    with Script(tmp_path, f"ARGS, LAUNCH = ['--lp_launch_type=vertex'], ()\n{LAUNCH_TYPE}") as launcher:
        assert launcher.end() == 1
        assert "--lp_launch_type='vertex' is not a launch type" in launcher.errors
