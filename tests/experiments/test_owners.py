"""What a sweep or a manager unpickles is nobody else's to write, whatever the umask was; what is, is refused."""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path

from experiments.agents import Plain, Walk, manager, scores
from experiments.sweeping import function_run, states, sweep
from kourou.errors import NotOwned
from kourou.experiments import Agent, ExperimentManager, SlurmOptions, SweepError
from kourou.experiments.slurm.manifest import Manifest
from kourou.experiments.sweep.prepared import prepare, process_spec
from kourou.experiments.sweep.run_process import read_payload
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Slot
from kourou.experiments.sweep.sources import Changes, load_source
from optional import pytest
from strangers import give_away, needs_root

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=[0o000, 0o002], ids=oct)
def open_handed(request: pytest.FixtureRequest) -> Iterator[None]:
    """A umask that lets others write."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def written_by_others(top: Path) -> list[str]:
    """What others can write to, of all that could be unpickled, and the folders that it is in."""
    kinds = {".pkl", ".pickle", ".sh", ".json"}
    files = [path for path in top.rglob("*") if path.suffix in kinds or path.name == "agent"]
    places = {*files, *(path.parent for path in files)}
    return sorted(str(path.relative_to(top)) for path in places if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def look_at_the_payload() -> None:
    folder = Path(os.environ["KOUROU_RUN_DIR"])
    (folder / "seen").write_text(str(written_by_others(folder)))


@pytest.mark.usefixtures("open_handed")
def test_others_cannot_write_what_a_sweeps_runs_unpickle(tmp_path: Path) -> None:
    # Given a folder that is there already
    (tmp_path / "sweep").mkdir()
    run = function_run(tmp_path, "r", look_at_the_payload)
    assert states(sweep(tmp_path, [run])) == {"r": "SUCCEEDED"}
    assert Path(run.folder, "seen").read_text() == "[]"
    assert not (tmp_path / "sweep").stat().st_mode & stat.S_IWOTH


@pytest.mark.usefixtures("open_handed")
@pytest.mark.parametrize("agent", [Walk, Plain])
def test_others_cannot_write_what_managers_unpickle(tmp_path: Path, agent: type) -> None:
    made = manager(tmp_path / "top", agent, mode="forkserver", init_kwargs={"start": 1} if agent is Plain else {})
    made.fit()
    assert written_by_others(made.output_dir) == []
    assert scores(ExperimentManager.load(made.output_dir)) == scores(made)


def test_a_payload_that_was_changed_is_refused(tmp_path: Path) -> None:
    (run,) = prepare([function_run(tmp_path, "r", print, end="")])
    boot = process_spec(run, Slot(index=0), 1, tmp_path)[1]
    file = Path(boot["payload_file"])
    file.parent.mkdir(parents=True)
    file.write_bytes(run.payload or b"")
    assert read_payload(file, boot["payload_sha256"])[0] == "function"
    file.write_bytes(pickle.dumps(("function", exit, {})))
    with pytest.raises(SweepError, match="is not what its launcher wrote"):
        read_payload(file, boot["payload_sha256"])


def test_what_others_can_write_to_is_not_read(tmp_path: Path) -> None:
    made = manager(tmp_path)
    made.fit()
    (agent,) = (made.output_dir / "fits" / "0" / "agent-1").iterdir()
    for file, read in (
        (made.output_dir / "manager_obj.pickle", lambda: ExperimentManager.load(made.output_dir)),
        (agent, made.get_agent_instances),
        (agent, lambda: Agent.load(agent)),
    ):
        file.chmod(0o666)
        with pytest.raises(NotOwned, match="chmod go-w"):
            read()
        file.chmod(0o644)
    tmp_path.chmod(0o755)
    (tmp_path / "sweep.json").write_text("{}")
    (tmp_path / "sweep.json").chmod(0o666)
    with pytest.raises(NotOwned, match=r"sweep\.json"):
        load_source(str(tmp_path), Changes())


def test_a_manifest_is_its_owners(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Manifest(folder=tmp_path, runs=(), attempts=(), options=SweepOptions(), slurm=SlurmOptions(), path=()).save(
            tmp_path / "m.pkl"
        )
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.pkl").stat().st_mode) == 0o644


@needs_root
def test_another_users_folder_is_not_swept_into(tmp_path: Path) -> None:
    run = function_run(tmp_path, "r", print)
    Path(run.folder).mkdir(parents=True)
    give_away(Path(run.folder))
    outcome = sweep(tmp_path, [run])
    assert "belongs to" in outcome.records[0].cause
