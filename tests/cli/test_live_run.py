"""The commands on a run that a process of its own has launched: one run serves all tests here."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from cli.commands import LiveRun, kourou, start
from kourou.runtime.model.records import NodeState
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.sampling import Sampler
from polling import WAIT_S, until


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    run = LiveRun.start(tmp_path_factory.mktemp("runs"), "make_endless", "--launch-type", "local_mp")
    yield run
    run.end()


def test_ps_lists_the_run(live):
    listed = live.kourou("ps", "--json").json

    assert [(run["run"], run["state"], run["nodes"]) for run in listed] == [(live.found.run_id, "running", 3)]
    assert live.found.run_id in live.kourou("ps").out


def test_status_shows_what_each_node_does(live):
    status = live.kourou("status", live.found.run_id, "--json").json

    nodes = {node["name"]: node for node in status["nodes"]}
    assert status["state"] == "running"
    assert list(nodes) == ["server/0", "client/0", "client/1"]
    assert {node["state"] for node in nodes.values()} == {"READY"}
    assert nodes["server/0"]["calls_per_s"] > 0
    assert nodes["client/0"]["calls"] == 0
    assert all(node["memory_bytes"] > 1 << 20 for node in nodes.values())
    assert all(node["cpu_percent"] >= 0 for node in nodes.values())
    assert nodes["client/1"]["last_line"] == "client 1 begins"


def test_a_trace_of_the_run_has_arrows_from_callers_to_handlers(live, tmp_path):
    file = tmp_path / "trace.json"

    outcome = live.kourou("trace", "-", "--seconds", "0.8", "-o", str(file))

    assert outcome.out == f"{file}\n"
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert set(names.values()) == {"server/0", "client/0", "client/1"}
    slices = [event for event in events if event["ph"] == "X"]
    calls = [event for event in slices if event["name"] == "server/0.add"]
    handlers = [event for event in slices if event["name"] == "add"]
    assert {names[event["pid"]] for event in calls} == {"client/0", "client/1"}
    assert {names[event["pid"]] for event in handlers} == {"server/0"}
    begun = {event["id"]: event for event in events if event["ph"] == "s"}
    ended = {event["id"]: event for event in events if event["ph"] == "f"}
    assert begun.keys() == ended.keys()
    assert len(begun) >= 10
    for number, arrow in begun.items():  # it begins in the call's slice, and ends later, in the handler's
        assert any((one["pid"], one["tid"], one["ts"]) == (arrow["pid"], arrow["tid"], arrow["ts"]) for one in calls)
        assert names[ended[number]["pid"]] == "server/0"
        assert ended[number]["ts"] > arrow["ts"]
    assert [event["name"] for event in slices if event["tid"] == 0 and names[event["pid"]] == "server/0"] == [
        "STARTING",
        "READY",
    ]


def test_numbers_are_what_prometheus_reads(live):
    parse = pytest.importorskip("prometheus_client.parser").text_string_to_metric_families
    families = {family.name: family for family in parse(live.kourou("metrics").out)}
    assert families["rpc_server_call_duration_seconds"].type == "histogram"
    samples = families["rpc_server_call_duration_seconds"].samples
    adds = [one for one in samples if one.labels["rpc_method"] == "add"]
    (count,) = (one.value for one in adds if one.name.endswith("_count"))
    buckets = [one.value for one in adds if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == count > 0
    up = {one.labels["node"]: one.value for one in families["kourou_node_up"].samples}
    assert up == {"server/0": 1, "client/0": 1, "client/1": 1}


def test_numbers_are_told_to_who_shows_the_token(live):
    serving = start("metrics", "-", "--port", "0", "--runs-dir", str(live.runs_dir))
    try:
        assert serving.stderr is not None
        url = re.search(r"http://127\.0\.0\.1:\d+/metrics", serving.stderr.readline())
        assert url is not None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url[0])  # noqa: S310
        request = urllib.request.Request(url[0], headers={"Authorization": f"Bearer {live.found.token}"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            assert "rpc_server_call_duration_seconds_bucket" in answer.read().decode()
    finally:
        serving.kill()
        serving.communicate()


def test_a_trace_needs_nodes_that_there_are(live):
    assert "there is no node 'nobody'" in live.kourou("trace", "-", "nobody").err


def test_status_fits_a_terminal(live):
    lines = live.kourou("status").out.splitlines()

    assert max(map(len, lines)) <= 100
    assert re.search(r"client/1 .*● ready +\d+ +1 .*MiB .*client 1 begins", "\n".join(lines))


def test_status_that_is_watched_in_a_pipe_is_a_table_each_time(live):
    watching = start("status", "-", "--watch", "--interval", "0.1", "--runs-dir", str(live.runs_dir))
    assert watching.stdout is not None
    try:
        seen = "".join(watching.stdout.readline() for _ in range(20))
    finally:
        watching.kill()
        watching.communicate()

    assert seen.count(f"{live.found.run_id}  ·") >= 2
    assert "\n\n" in seen


def test_status_as_a_stream_of_json_ends_with_the_reader(live):
    watching = start("status", "-", "--watch", "--json", "--interval", "0.1", "--runs-dir", str(live.runs_dir))
    assert watching.stdout is not None
    first = watching.stdout.readline()

    watching.stdout.close()

    assert '"state": "running"' in first
    assert watching.wait(timeout=20) == 1
    assert watching.stderr is not None
    watching.stderr.close()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["client/0"], ["client 0 begins"]),
        (["server"], []),
        (["client", "-n", "0"], []),
        (["client/1", "server"], ["[client/1] client 1 begins"]),
        (["*/0"], ["[client/0] client 0 begins"]),
        (["--grep", "t 1 b"], ["[client/1] client 1 begins"]),
        (["client/0", "-g", "^never$"], []),
        (["client/0", "--since", "1d"], ["client 0 begins"]),
        (["client/0", "--since", "0s"], []),
        (["client/0", "--since", "2020-01-01"], ["client 0 begins"]),
    ],
)
def test_logs_of_one_node_are_its_lines_only(live, words, expected):
    assert live.kourou("logs", "last", *words).out.splitlines() == expected


def test_logs_of_several_nodes_bear_their_names(live):
    merged = live.kourou("logs").out.splitlines()

    assert sorted(merged) == ["[client/0] client 0 begins", "[client/1] client 1 begins"]
    assert live.kourou("logs", "-", "client", "-n", "1").out.splitlines() == merged[-1:]


def test_logs_can_tell_times(live):
    (line,) = live.kourou("logs", "-", "client/0", "--times").out.splitlines()
    as_json = live.kourou("logs", "-", "client/0", "--json").json

    assert line == f"{as_json['time']}  client 0 begins"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", as_json["time"])


def test_logs_of_an_unknown_node_lists_the_nodes(live):
    outcome = live.kourou("logs", "-", "learner")

    assert outcome.code == 2
    assert "no node 'learner'; the labels are: server, client (2 nodes)" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grep", "("], "--grep '(' is no regular expression"),
        (["--since", "soon"], "'soon' is no duration"),
    ],
)
def test_logs_of_what_cannot_be_meant_are_a_mistake(live, words, message):
    outcome = live.kourou("logs", "-", *words)

    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["point", "4", "--json"], {"x": 4, "y": 0.5}),
        (["count", "3"], None),
    ],
)
def test_call_prints_what_the_method_returned(live, words, expected):
    outcome = live.kourou("call", live.found.run_id[:12], "server", *words)

    assert outcome.code == 0, outcome.err
    if expected is None:
        assert outcome.out.splitlines() == ["0", "1", "2"]
    else:
        assert outcome.json == expected


def test_call_takes_negative_numbers_and_keywords(live):
    before = int(live.kourou("call", "-", "server/0", "add", "0").out)

    live.kourou("call", "-", "server/0", "add", "-5")
    after = int(live.kourou("call", "-", "server/0", "add", "2", "--kwargs", '{"times": 10}').out)

    assert after == before + 15
    live.kourou("call", "-", "server/0", "add", "-15")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["server", "fail"], 1, "raised ValueError: no such thing"),
        (["server", "nope"], 2, "method nope not found"),
        (["server", "add", "{1"], 2, "'{1' is not JSON"),
        (["server", "add", "--kwargs", "[]"], 2, "--kwargs takes a JSON object"),
        (["server", "_secret"], 2, "private methods cannot be called"),
        (["client", "add"], 2, "'client' has 2 nodes, name one: client/0, client/1"),
        (["learner", "add"], 2, "the labels are: server"),
    ],
)
def test_call_says_what_is_wrong(live, words, code, message):
    outcome = live.kourou("call", "-", *words)

    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err


def test_debug_shows_where_a_node_is_and_disturbs_nothing(live):
    live.kourou("debug", "-", "client/0")
    outcome = live.kourou("debug", "-", "client/0")

    assert "call_for_ever" in outcome.out
    assert outcome.out.count("most recent call first") == 1 + outcome.out.count("\n\nThread 0x")
    assert "most recent call first" not in live.kourou("logs", "-").out
    assert live.kourou("status", "--json").json["nodes"][1]["state"] == "READY"


def test_debug_of_a_node_that_has_nothing_to_say_about_itself(live, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    outcome = live.kourou("debug", "-", "client/0", "--py-spy")

    assert outcome.code == 2
    assert "py-spy is not installed; get it with: pip install 'kourou[debug]'" in outcome.err


@pytest.mark.parametrize("word", ["endless", "e", "-", "last"])
def test_a_run_is_meant_by_its_beginning_or_by_being_the_newest(live, word):
    assert live.kourou("status", word, "--json").json["run_id"] == live.found.run_id


def test_an_unknown_run_lists_those_there_are(live):
    outcome = live.kourou("status", "nonsense")

    assert outcome.code == 2
    assert f"begins with 'nonsense'; there are:\n  {live.found.run_id}  (running" in outcome.err


def test_clean_never_touches_a_live_run(live):
    assert live.kourou("clean", "--older-than", "0", "--json").json["runs"] == []
    assert live.found.path.exists()


def test_shells_complete_runs_and_nodes(live, monkeypatch):
    monkeypatch.setenv("KOUROU_RUNS_DIR", str(live.runs_dir))

    runs = _complete("kourou status end")
    nodes = _complete(f"kourou call {live.found.run_id} cl")

    assert live.found.run_id in runs
    assert nodes.split() == ["client/0", "client/1"]


def _complete(typed: str) -> str:
    words = typed.split()
    program = "import sys; sys.argv[0] = 'kourou'; from kourou.cli import main; main()"
    variables = {"_KOUROU_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    script = [f"export {name}={value!r};" for name, value in variables.items()]
    command = " ".join([*script, f'exec {sys.executable} -c "{program}"'])
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True).stdout


def test_stop_ends_it_and_says_how(launched):
    live = launched("make_endless", "--launch-type", "local_mt")
    following = start("logs", "-", "client/0", "-f", "--runs-dir", str(live.runs_dir))
    until(lambda: live.kourou("logs", "-", "client/0").out, 10)

    stopped = live.kourou("stop", "endless")

    assert stopped.code == 0, stopped.err
    assert re.search(r"finished \d+\.\ds after it was asked to end\n  3 finished", stopped.out)
    assert live.launcher.wait(timeout=20) == 0
    assert "had already ended: finished, 3 finished" in live.kourou("stop", "endless").out
    out, err = following.communicate(timeout=20)  # it ends with the run
    assert (following.returncode, out, err) == (0, "client 0 begins\n", "")


def test_restart_starts_a_node_again(launched):
    live = launched("make_endless", "--launch-type", "local_mp")

    again = live.kourou("restart", "-", "client/1", "--json")

    assert again.code == 0, again.err
    [node] = again.json
    assert (node["name"], node["attempt"]) == ("client/1", 2)
    assert live.kourou("restart", "-", "clients").code == 2
    log = live.kourou("logs", "-", "client/1").out
    assert "was ended to be started again: kourou restart, by " in log


def test_stop_gives_up_when_told_to(launched):
    live = launched("make_stubborn", "--launch-type", "local_mp")

    outcome = live.kourou("stop", "-", "--timeout", "0.2")

    assert outcome.code == 1
    assert "had not ended after 0.2 s" in outcome.err
    assert live.kourou("status", "--json").json["state"] == "stopping"
    live.launcher.kill()  # else it would end in ten minutes


def test_the_stacks_of_a_program_of_threads_come_from_its_launcher(launched):
    live = launched("make_endless", "--launch-type", "local_mt")

    stacks = live.kourou("debug", "-", "client/1").out
    sample = live.kourou("status", "--json").json

    assert "Thread kourou:client/1" in stacks
    assert "call_for_ever" in stacks
    assert sample["launcher"]["memory_bytes"] > 1 << 20
    assert {node["memory_bytes"] for node in sample["nodes"]} == {None}


def test_without_runs_every_command_says_so(runs_dir):
    assert "no live runs" in kourou("ps").out
    for command in ("status", "logs"):
        outcome = kourou(command)
        assert outcome.code == 2
        assert f"there are no runs in {runs_dir}" in outcome.err


def test_scale_lets_groups_grow_and_shrink(launched):
    live = launched("make_endless")

    came = live.kourou("scale", "-", "client=4", "--json")
    assert [(node["name"], node["state"]) for node in came.json] == [("client/2", "READY"), ("client/3", "READY")]
    went = live.kourou("scale", "-", "client=1")
    assert went.out.startswith("client has 1 nodes: 3 fewer, ")

    refused = live.kourou("scale", "-", "clint=2")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        "kourou: program 'endless' has no group 'clint'; did you mean 'client'?",
    )
    assert "client/0 was given handles of single nodes (server/0)" in live.kourou("scale", "-", "server=2").err
    assert live.kourou("scale", "-", "client").code == 2
    status = live.kourou("status", "-").out.splitlines()
    states = [line.split()[:3] for line in status if line.startswith("client/")]
    assert states == [["client/0", "●", "ready"], *([f"client/{i}", "✓", "removed"] for i in (1, 2, 3))]
    assert live.kourou("logs", "-", "client/3").out == "client 3 begins\n"


def test_a_suspended_launcher_is_said_to_be_suspended(launched):
    # Given a run that is looked at, and then suspended, as by Ctrl-Z
    live = launched("make_endless", "--launch-type", "local_mp")
    with Sampler(live.found) as sampler:
        assert sampler.sample().status.state is RunState.RUNNING
        live.launcher.send_signal(signal.SIGSTOP)
        try:
            until(lambda: live.found.state is RunState.SUSPENDED, WAIT_S, "the suspension")
            # Then all say so, at once
            began = sampler.sample()
            assert [node.state for node in began.status.nodes] == [NodeState.READY] * 3
            assert began.status.state is RunState.SUSPENDED
            assert live.kourou("ps", "--json").json[0]["state"] == "suspended"
            assert "suspended: fg in its shell" in live.kourou("status").out
            for words in (["call", "-", "server", "add", "1"], ["stop", "-"], ["debug", "-", "client/0"]):
                outcome = live.kourou(*words)
                assert outcome.code == 1
                assert f"or kill -CONT {live.launcher.pid}, has let it go on" in outcome.err
            [finding] = live.kourou("doctor", "--json").json["findings"]
            assert "is suspended, by Ctrl-Z or SIGSTOP" in finding["text"]
        finally:
            live.launcher.send_signal(signal.SIGCONT)
        # And when it goes on, it is a run as before
        assert until(lambda: live.found.state is RunState.RUNNING, WAIT_S, "the end of the suspension")
        assert sampler.sample().status.state is RunState.RUNNING
