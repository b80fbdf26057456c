"""``--multirun hydra/launcher=kourou``: Hydra's jobs are the runs of a sweep."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

from kourou import experiments
from kourou.experiments.journal.journal import read_records
from optional import is_there, pytest

NEEDS_HYDRA = pytest.mark.skipif(not is_there("hydra"), reason="Hydra is not installed")
pytestmark = NEEDS_HYDRA

APP = Path(__file__).with_name("hydra_app.py")
PLUGIN = Path(__file__).parents[2] / "plugins" / "hydra-kourou-launcher"
EXPECTED = {"0: +x=1": "SUCCEEDED", "1: +x=2": "SUCCEEDED", "2: +x=bad": "FAILED"}


def multirun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the example as a user would, with the plugin installed."""
    path = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(APP), "--multirun", "hydra/launcher=kourou", "hydra.sweep.dir=m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def states(sweep: Path) -> dict[str, str]:
    return {record.name: str(record.state) for record in read_records(sweep).values()}


@pytest.mark.usefixtures("no_leaks", "runs_dir")
def test_jobs_are_runs_of_a_sweep(tmp_path, monkeypatch):
    # Given, when
    ended = multirun(tmp_path, "+x=1,2,bad", "hydra.launcher.parallel=2")
    # Then: its error is raised, as by Hydra's own launcher, and all of them are told
    assert ended.returncode == 1
    assert "ValueError: x is bad" in ended.stderr
    assert "#2: +x=bad FAILED: exited with 1, see " in ended.stdout
    assert states(tmp_path / "m") == EXPECTED
    # each is in Hydra's folder for it, with Hydra's files and kourou's
    second = tmp_path / "m" / "1"
    assert (second / ".hydra" / "overrides.yaml").read_text() == "- +x=2\n"
    assert json.loads((second / "run.json").read_text())["params"] == {"x": 2}
    assert "x is 2" in (second / "stdout.log").read_text()
    assert [row["doubled"] for row in experiments.read_metrics(second)] == [4]
    # and it gave back what it returned, of the script's own class
    monkeypatch.syspath_prepend(str(PLUGIN))
    returned = pickle.loads((second / "job_return.pkl").read_bytes())
    assert returned.return_value.value == 4
    # When it is started again in that folder, then nothing is run again, and all is given back
    assert "ValueError: x is bad" in multirun(tmp_path, "+x=1,2,bad").stderr
    assert [record.attempt for record in read_records(tmp_path / "m").values()] == [1, 1, 1]


def test_what_can_be_said_is_what_a_sweep_takes(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGIN))
    from hydra_plugins.hydra_kourou_launcher._config import LauncherConf, SlurmConf

    def names(kind: type) -> set[str]:
        return {field.name for field in dataclasses.fields(kind)}

    sweeps = names(experiments.Share) | names(experiments.SweepOptions) - {"rotation"}  # which the environment says
    assert names(LauncherConf) - {"_target_", "backend", "rerun", "slurm"} == sweeps
    assert names(SlurmConf) == names(experiments.SlurmOptions) - {"template", "timeout", "workdir"}
    defaults = dataclasses.asdict(SlurmConf())
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in defaults.items()} == {
        name: getattr(experiments.SlurmOptions(), name) for name in defaults
    }
