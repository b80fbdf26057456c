"""Kubernetes without a cluster: what would be handed over, and what travels."""

from __future__ import annotations

import base64
import dataclasses
import io
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import kourou as lp
from fuzzing import examples
from kourou.runtime.files.run_folder import new_run_id
from kourou.runtime.launch.batch.submission import plan_submission
from kourou.runtime.launchers.engines import kubernetes_tree
from kourou.runtime.launchers.engines.kubernetes_batch import KubernetesSubmission
from kourou.runtime.launchers.engines.kubernetes_manifests import job_set_name
from kourou.runtime.launchers.engines.yaml_text import to_yaml
from kourou.runtime.model.engines import known_engines
from kourou.runtime.plan.compile import compile_program
from manifests import check_manifest
from optional import optional

yaml = optional("yaml")


def work() -> None:
    lp.stop()


def program_of(name: str = "ape-x") -> lp.Program:
    program = lp.Program(name)
    program.add_node(lp.PyNode(work), label="learner")
    with program.group("actor"):
        for _ in range(4):
            program.add_node(lp.PyNode(work))
    return program


PLACEMENT = {"learner": "big", "actor": ["one", "two"]}
RESOURCES = {
    "learner": lp.Resources(cpus=4, gpus=2, memory_bytes=8 << 30),
    "actor": lp.Resources(cpus=1, gpus=0, memory_bytes=1 << 30),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "least": {},
    "a GPU learner and two hosts of actors": {"placement": PLACEMENT, "local_resources": RESOURCES},
    "all": {
        "placement": PLACEMENT,
        "local_resources": RESOURCES,
        "stop": lp.StopTimeline(ask_s=60),
        "options": {
            "namespace": "ml",
            "context": "arn:aws:eks:eu-west-1:1:cluster/a b",
            "queue": "team-a",
            "claim": "runs",
            "env": {"WANDB_MODE": "offline"},
            "cpus_per_node": 8,
            "memory": "32Gi",
            "ephemeral_storage": "10Gi",
            "shm": "8Gi",
            "gpu_resource": "amd.com/gpu",
            "node_selector": {"cloud.google.com/gke-accelerator": "nvidia-l4"},
            "tolerations": ("nvidia.com/gpu=present:NoSchedule", "spot:NoExecute", "any"),
            "priority_class": "batch",
            "service_account": "trainer",
            "image_pull_secret": "registry",
            "run_as_user": None,
        },
    },
}


def submission(case: str, **changes: Any) -> KubernetesSubmission:
    given = {**OPTIONS[case]}
    options = {"image": "registry.example/train:1", "tree": None, **given.pop("options", {}), **changes}
    plan = compile_program(program_of(), lp.Kubernetes(**options), **given)
    made = plan_submission(plan, Path("/runs/ape-x-20261128-153012-1a2b3c"))
    assert isinstance(made, KubernetesSubmission)
    return made


@pytest.mark.parametrize("case", OPTIONS)
def test_a_cluster_takes_the_manifests(case: str) -> None:
    job_set = submission(case).job_set
    documents = [job_set.job_set(), *job_set.owned("8f2e", {"dial.json": "{}", "authority.pem": "PEM"})]
    for document in yaml.safe_load_all(to_yaml(documents)):
        check_manifest(document)


def test_each_host_asks_for_what_its_nodes_do_and_no_secret_is_shown() -> None:
    made = submission("a GPU learner and two hosts of actors", namespace="ml", queue="team-a")
    documents = list(yaml.safe_load_all(made.script))
    job_set = documents[0]
    assert [document["kind"] for document in documents] == ["JobSet", "NetworkPolicy", "Secret", "Secret"]
    assert job_set["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team-a"}
    jobs = {each["name"]: each["template"]["spec"] for each in job_set["spec"]["replicatedJobs"]}
    containers = {name: job["template"]["spec"]["containers"][0] for name, job in jobs.items()}
    assert {name: job["parallelism"] for name, job in jobs.items()} == {"launcher": 1, "hosts0": 1, "hosts1": 2}
    assert containers["hosts0"]["resources"] == {
        "requests": {"cpu": "4", "memory": "8704Mi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "8704Mi", "nvidia.com/gpu": "2"},
    }
    assert containers["hosts1"]["resources"] == {
        "requests": {"cpu": "2", "memory": "2560Mi"},
        "limits": {"memory": "2560Mi"},
    }
    assert {"name": "KOUROU_PLACES", "value": "1,2"} in containers["hosts1"]["env"]
    assert set(documents[2]["stringData"].values()) == {"(made when it is submitted)"}
    # only the launcher can sign certificates
    items = {
        name: [
            item["key"]
            for volume in job["template"]["spec"]["volumes"]
            for item in volume.get("secret", {}).get("items", ())
        ]
        for name, job in jobs.items()
    }
    assert items == {
        "launcher": ["dial.json", "authority.pem"],
        "hosts0": ["dial.json"],
        "hosts1": ["dial.json"],
    }
    assert shlex.join(made.command) == "kubectl --namespace=ml apply --server-side --filename=- --output=json"


def test_one_whose_launcher_is_here_ends_with_its_pods_and_lets_the_launcher_call_them() -> None:
    job_set = dataclasses.replace(submission("all").job_set, plan=None)
    documents = [job_set.job_set(), *job_set.owned("8f2e", {"dial.json": "{}"})]
    for document in documents:
        check_manifest(document)
    assert [document["kind"] for document in documents] == ["JobSet", "Secret"]
    assert [job["name"] for job in documents[0]["spec"]["replicatedJobs"]] == ["hosts0", "hosts1"]
    assert documents[0]["spec"]["ttlSecondsAfterFinished"] == 0


def test_what_travels_is_in_secrets_that_a_cluster_takes() -> None:
    # Given something that is larger than one may be
    job_set = submission("least").job_set
    content = bytes(range(256)) * (7 << 10)
    job_set = dataclasses.replace(job_set, tree=content)
    # When
    secrets = [each for each in job_set.owned("8f2e", {}) if "-tree-" in each["metadata"]["name"]]
    # Then
    assert len(secrets) == 3
    for each in secrets:
        check_manifest(each)
    pieces = sorted((name, base64.b64decode(text)) for each in secrets for name, text in each["data"].items())
    assert b"".join(piece for _, piece in pieces) == content


@pytest.mark.parametrize("program", ["ape-x", "Q", "4x4", "ein sehr langes Programm für Äpfel", "..."])
def test_names_are_such_that_pods_can_have_them(program: str) -> None:
    run_id = new_run_id(program)
    name = job_set_name(run_id)
    assert name.endswith(run_id[-22:])
    assert name[0].isalpha()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(f"{name}-launcher-0-0-abcde") <= 63


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(lp.errors.GraphError, match="image is missing"):
        lp.Kubernetes()
    with pytest.raises(lp.errors.GraphError, match="memory is an amount such as '16Gi', got 'lots'"):
        lp.Kubernetes(image="x", memory="lots")
    with pytest.raises(lp.errors.GraphError, match="run_as_user is at least 1, got 0"):
        lp.Kubernetes(image="x", run_as_user=0)
    words = ["image=x", "run_as_user=none", "tree=none", "node_selector=pool=gpu", "tolerations=a", "tolerations=b"]
    assert known_engines()["kubernetes"].from_words(words) == lp.Kubernetes(
        image="x", run_as_user=None, tree=None, node_selector={"pool": "gpu"}, tolerations=("a", "b")
    )


class TestTheTree:
    def test_it_has_what_git_does_not_ignore_and_is_always_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "pkg").mkdir()
        (tmp_path / "pkg" / "train.py").write_text("x = 1")
        (tmp_path / "data.bin").write_bytes(bytes(1000))
        (tmp_path / ".gitignore").write_text("*.bin\n")
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        packed = kubernetes_tree.pack(tmp_path)
        (tmp_path / "pkg" / "train.py").touch()
        assert kubernetes_tree.pack(tmp_path) == packed
        assert names_in(packed) == [".gitignore", "pkg/train.py"]

    def test_outside_of_a_repository_it_has_what_is_not_hidden(self, tmp_path: Path) -> None:
        for name in ("a.py", ".secret", "__pycache__/a.pyc", ".venv/b.py", "c/d.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("")
        assert names_in(kubernetes_tree.pack(tmp_path)) == ["a.py", "c/d.py"]

    def test_one_that_is_too_large_is_refused_with_what_is_largest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kubernetes_tree, "_MOST_BYTES", 100)
        (tmp_path / "weights.pt").write_bytes(bytes(100_000))
        with pytest.raises(lp.errors.PlanError, match=r"the largest are weights\.pt"):
            kubernetes_tree.pack(tmp_path)


def names_in(packed: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return archive.getnames()


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(document=st.dictionaries(TEXT, DATA, min_size=1, max_size=4))
@settings(max_examples=examples(200))
def test_yaml_is_what_it_was_made_of(document: dict[str, Any]) -> None:
    assert list(yaml.safe_load_all(to_yaml([document, document]))) == [document, document]
