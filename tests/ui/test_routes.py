"""The dashboard's URLs: who is let in, what they answer, what they do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands import LiveRun, kourou
from kourou.ui.history import Lives
from kourou.ui.lists import Listed
from optional import optional
from polling import WAIT_S, until

testclient = optional("starlette.testclient")
routes = optional("kourou.ui.routes")

TOKEN = "the-dashboards-token"
BASE = "http://127.0.0.1:7766"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    run = LiveRun.start(tmp_path_factory.mktemp("ui") / "launched", "make_endless", "--launch-type", "local_mp")
    yield run
    run.end()


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of four runs, of which one fails."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "rows").write_text('{"step": 1, "score": 2}\n')
    (folder / "sweep.yaml").write_text(
        f"""
name: small
train_dir: {folder}/out
experiments:
  - name: base
    command: [sh, -c, 'echo said $1; test "$1" != --x=3 || exit 4; cp {folder}/rows $KOUROU_RUN_DIR/metrics.jsonl', sh]
    params: {{grid: {{x: [1, 2, 3], y: [7]}}}}
"""
    )
    kourou("sweep", "run", str(folder / "sweep.yaml"), "-j", "3")
    return folder


@pytest.fixture(scope="module")
def stranger(live: LiveRun, sweeps: Path) -> Iterator:
    app = routes.make_app(Listed(live.runs_dir, sweeps), token=TOKEN)
    with testclient.TestClient(app, base_url=BASE, follow_redirects=False) as client:
        yield client


@pytest.fixture
def friend(stranger) -> Iterator:
    stranger.headers["Authorization"] = f"Bearer {TOKEN}"
    stranger.headers["X-Kourou"] = "1"
    yield stranger
    del stranger.headers["Authorization"], stranger.headers["X-Kourou"]


def url(live: LiveRun, *parts: str) -> str:
    return "/".join(["/api/runs", live.found.run_id, *parts])


def ended_page(friend, live: LiveRun) -> dict:
    page: dict = friend.get(url(live)).json()
    return page if page["state"] == "finished" else {}


def paths(live: LiveRun) -> list[str]:
    run = live.found.run_id
    api = [url(live, part) for part in ("events", "lives", "curves", "doctor", "logs", "logs/events", "nodes/server/0")]
    pages = ["/", f"/runs/{run}", "/sweeps/out/small", "/static/app.js", "/static/vendor/uplot.js", "/nothing"]
    return [*pages, "/api/runs", url(live), *api, "/api/sweeps/out/small", "/api/results/out/small"]


def test_a_stranger_sees_nothing(stranger, live: LiveRun) -> None:
    for path in paths(live):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "kourou-ui-7766=wrong"}, {"Cookie": "=;;"}):
            answer = stranger.get(path, headers=headers)
            assert (path, answer.status_code) == (path, 401)
            assert live.found.run_id not in answer.text
        assert stranger.get(f"{path}?token=wrong").status_code == 401
    for action in ("stop", "restart", "stacks"):
        assert stranger.post(url(live, action), headers={"X-Kourou": "1"}).status_code == 401
        assert stranger.post(url(live, f"{action}?token={TOKEN}"), headers={"X-Kourou": "1"}).status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_url(stranger, live: LiveRun) -> None:
    answer = stranger.get(f"/runs/{live.found.run_id}?a=1&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{live.found.run_id}?a=1")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("kourou-ui-7766=")
    assert {"httponly", "samesite=lax", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert stranger.get("/api/runs").status_code == 200  # the client has kept it
    stranger.cookies.clear()
    assert stranger.get(f"{BASE}//evil.example/?token={TOKEN}").headers["location"] == "/evil.example/"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7766", "localhost.evil.example", ""])
def test_a_name_that_has_come_to_lead_here_is_refused(friend, host: str) -> None:
    assert friend.get("/api/runs", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:7766", "10.0.0.7:7766"])
def test_addresses_and_the_usual_name_are_not(friend, host: str) -> None:
    assert friend.get("/api/runs", headers={"Host": host}).status_code == 200


def test_another_sites_page_changes_nothing(friend, live: LiveRun) -> None:
    del friend.headers["X-Kourou"]
    try:
        assert friend.post(url(live, "stop")).status_code == 403
        headers = {"X-Kourou": "1", "Origin": "http://evil.example"}
        assert friend.post(url(live, "stop"), headers=headers).status_code == 403
    finally:
        friend.headers["X-Kourou"] = "1"
    assert friend.get(url(live, "stop")).status_code == 405
    assert live.found.state.live


def test_pages_load_only_what_is_theirs(friend) -> None:
    for path in ("/", "/static/app.js", "/api/runs", "/nothing"):
        headers = friend.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
    assert friend.get("/static/../routes.py").status_code == 404
    assert friend.get("/static/%2e%2e/routes.py").status_code == 404
    page = friend.get("/").text
    assert "<script>" not in page
    assert "style=" not in page


def test_lists(friend, live: LiveRun) -> None:
    found = friend.get("/api/runs").json()
    assert [(row["run"], row["state"], row["nodes"]) for row in found["runs"]] == [(live.found.run_id, "running", 3)]
    [sweep] = found["sweeps"]
    assert (sweep["sweep"], sweep["done"], sweep["total"], sweep["active"]) == ("out/small", 3, 3, False)
    assert friend.get("/api/runs?text=nothing-like-it").json()["runs"] == []
    assert len(friend.get("/api/runs?most=0").json()["runs"]) == 1  # one that is live is always there


def test_a_live_run(friend, live: LiveRun) -> None:
    first = friend.get(url(live)).json()
    assert [node["name"] for node in first["nodes"]] == ["server/0", "client/0", "client/1"]

    def with_rates() -> dict:
        page: dict = friend.get(url(live)).json()
        return page if page["graph"]["edges"][0]["calls_per_s"] else {}

    page = until(with_rates, WAIT_S, "rates")
    [edge] = page["graph"]["edges"]
    assert (edge["from"], edge["to"]) == ("client", "server")
    assert page["hosts"][0]["nodes"] == 3
    assert "endpoint" not in page["nodes"][0]
    lives = friend.get(url(live, "lives"))
    assert {life["node"] for life in lives.json()["lives"]} == {"server/0", "client/0", "client/1"}
    again = friend.get(url(live, "lives"), headers={"If-None-Match": lives.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert friend.get(url(live, "curves")).json() == {"config": {}, "curves": []}
    assert friend.get(url(live, "doctor")).json()["healthy"]
    [line] = friend.get(url(live, "logs?node=client/1")).json()
    assert (line["node"], line["text"]) == ("client/1", "client 1 begins")
    assert friend.get(url(live, "nodes/client/1")).json()["plan"]["inputs"] == ["server/0"]
    assert "File" in friend.post(url(live, "stacks?node=server/0")).json()["stacks"]


def test_what_there_is_not(friend, live: LiveRun) -> None:
    for path in ("/api/runs/nothing", url(live, "nodes/nothing/0"), url(live, "logs?node=nobody"), "/api/sweeps/no"):
        answer = friend.get(path)
        assert (path, answer.status_code) == (path, 404)
        assert answer.json()["error"]
    assert friend.get("/api/runs/..%2f..").status_code == 404
    assert friend.post(url(live, "restart?node=nobody")).status_code == 404


def test_a_sweep(friend) -> None:
    page = friend.get("/api/sweeps/out/small").json()
    assert (page["name"], page["varied"], page["states"]) == ("small", ["x"], {"SUCCEEDED": 2, "FAILED": 1})
    results = friend.get("/api/results/out/small").json()
    assert results["why"] == ""
    assert [setting["params"] for setting in results["settings"]] == [{"x": 1, "y": 7}, {"x": 2, "y": 7}]
    logs = friend.get("/api/sweep-logs/out/small", params={"run": page["runs"][0]["name"]}).json()
    assert logs["stdout.log"] == "said --x=1\n"


def test_a_node_is_restarted_and_the_run_is_stopped(friend, live: LiveRun) -> None:
    assert friend.post(url(live, "restart?node=client/0")).json() == {"asked": ["client/0"]}
    until(
        lambda: len([e for e in live.found.events() if e["event"] == "exit"]) == 1, WAIT_S, "the end of the first one"
    )
    assert friend.post(url(live, "stop")).json() == {"asked": True}
    until(lambda: live.found.state.over, WAIT_S, "the end of the run")
    # when it is looked at after its end
    page = until(lambda: ended_page(friend, live), WAIT_S, "its last page")
    assert page["stop_reason"].startswith("kourou ui, by")
    lives = Lives(live.found.events()).page()["lives"]
    assert [life["attempt"] for life in lives if life["node"] == "client/0"] == [1, 2]
    events = friend.get(url(live, "logs/events")).text
    assert events.endswith("event: end\ndata: {}\n\n")
    refused = friend.post(url(live, "stop"))
    assert (refused.status_code, "has ended" in refused.json()["error"]) == (409, True)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    outcome = kourou("ui", "no-such-run", "--runs-dir", str(tmp_path))
    assert (outcome.code, "there are no runs in" in outcome.err) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = kourou("ui", "--port", str(taken.getsockname()[1]), "--runs-dir", str(tmp_path))
    assert (outcome.code, "cannot listen on port" in outcome.err) == (2, True)
