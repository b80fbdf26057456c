"""kubectl, as engines call it: argument lists, JSON, and its own words where it refuses."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from kourou import errors
from kourou.runtime.launchers.engines.base import JobState
from kourou.runtime.launchers.engines.kubernetes_manifests import LAUNCHER, PRESENT
from kourou.runtime.launchers.engines.yaml_text import to_yaml
from kourou.runtime.model.engine_options import Kubernetes
from kourou.runtime.model.status import RunState

APPLY = ("apply", "--server-side", "--filename=-", "--output=json")
"""What hands manifests over. Server-side: the client's way keeps a copy of each in an annotation of 256 KiB."""

_PATIENCE_S = 60.0
_WORKLOAD = "workloads.kueue.x-k8s.io"


class JobSetJob:
    """A JobSet, by its name and what tells kubectl where it is.

    Args:
        words: as :attr:`words` has them.
    """

    def __init__(self, words: str) -> None:
        self.words = words
        """Name and options of kubectl, as they would be typed."""
        self.name, *self._where = shlex.split(words)

    @classmethod
    def of(cls, name: str, options: Kubernetes) -> JobSetJob:
        """That of a program."""
        where = {"--namespace": options.namespace, "--context": options.context}
        return cls(shlex.join([name, *(f"{option}={value}" for option, value in where.items() if value is not None)]))

    def command(self, *arguments: str) -> list[str]:
        """A call of kubectl's."""
        return ["kubectl", *self._where, *arguments]

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Hand manifests over; what they have become.

        Raises:
            LaunchError: the cluster refuses, or cannot be asked.
        """
        answer: dict[str, Any] = json.loads(self._call(*APPLY, given=to_yaml(documents)))
        items: list[dict[str, Any]] = answer["items"] if answer.get("kind") == "List" else [answer]
        return items

    def delete(self) -> None:
        """End it, with all that belongs to it; returns at once. One that is no more is no error.

        Raises:
            LaunchError: the cluster cannot be asked.
        """
        self._call("delete", "jobset", self.name, "--ignore-not-found", "--wait=false")

    def pods(self) -> list[dict[str, Any]]:
        """Its pods, the launcher's first.

        Raises:
            LaunchError: the cluster cannot be asked.
        """
        answer = json.loads(self._call("get", "pods", f"--selector={PRESENT}={self.name}", "--output=json"))
        items: list[dict[str, Any]] = answer["items"]
        return sorted(items, key=lambda pod: (not _is_launcher(pod), pod["metadata"]["name"]))

    def look(self) -> JobState:
        """What has become of it.

        Raises:
            LaunchError: the cluster cannot be asked.
        """
        try:
            job_set = json.loads(self._call("get", "jobset", self.name, "--output=json"))
        except errors.LaunchError as error:
            if "NotFound" in str(error):
                return JobState(state="gone", reason="Kubernetes does not know it any more")
            raise
        conditions = job_set.get("status", {}).get("conditions", [])
        for kind, outcome in (("Completed", RunState.FINISHED), ("Failed", RunState.FAILED)):
            for condition in conditions:
                if condition["type"] == kind and condition["status"] == "True":
                    words = _last_words(self.pods())
                    return JobState(
                        state="gone", reason=condition.get("message", kind), outcome=outcome, last_words=words
                    )
        pods = self.pods()
        reason = self._reason(job_set, pods)
        if any(_is_launcher(pod) and _is_running(pod) for pod in pods):
            return JobState(state="running", reason=reason)
        if not reason and (words := _last_words(pods)):
            reason = f"another pod for its launcher, whose last one failed: {_last_line(words)}"
        return JobState(state="pending", reason=reason or ("" if pods else "pods, which are being made"))

    def _reason(self, job_set: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
        """Why pods do not run, in Kubernetes' own words; "" where all do."""
        if job_set.get("spec", {}).get("suspend"):
            return self._why_suspended(job_set)
        waits: dict[str, list[str]] = {}
        for pod in pods:
            if not _is_running(pod) and (why := _why_pending(pod)):
                waits.setdefault(why, []).append(pod["metadata"]["name"])
        told = (f"{names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}: {why}" for why, names in waits.items())
        return "; ".join(told)

    def command_in_launcher(self, words: Sequence[str], *, terminal: bool) -> list[str]:
        """What runs Python with these arguments beside the launcher.

        Raises:
            ServerUnavailable: no launcher runs.
            LaunchError: the cluster cannot be asked.
        """
        typed = ["--stdin", "--tty"] if terminal else ["--stdin"]
        for pod in self.pods():
            if _is_launcher(pod) and _is_running(pod):
                python = pod["spec"]["containers"][0]["command"][0]
                there = [pod["metadata"]["name"], f"--container={LAUNCHER}", "--", python]
                return self.command("exec", *typed, *there, *words)
        raise errors.ServerUnavailable(f"JobSet {self.words} has no launcher that runs: kubectl get pods tells more")

    def logs_command(self) -> list[str]:
        """What prints what its launcher printed."""
        of_launcher = f"{PRESENT}={self.name},jobset.sigs.k8s.io/replicatedjob-name={LAUNCHER}"
        return self.command("logs", f"--selector={of_launcher}", "--tail=-1")

    def _why_suspended(self, job_set: Mapping[str, Any]) -> str:
        """What Kueue says."""
        uid = job_set["metadata"]["uid"]
        try:
            answer = json.loads(self._call("get", _WORKLOAD, f"--selector=kueue.x-k8s.io/job-uid={uid}", "-ojson"))
        except errors.LaunchError:
            return "its JobSet is suspended"
        for workload in answer["items"]:
            for condition in workload.get("status", {}).get("conditions", []):
                if condition["status"] == "False" and condition.get("message"):
                    return f"Kueue: {condition['message']}"
        return "its JobSet is suspended, until Kueue admits it"

    def _call(self, *arguments: str, given: str = "") -> str:
        """What kubectl prints.

        Raises:
            LaunchError: it fails, with its own words.
        """
        command = self.command(*arguments)
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
            )
        except FileNotFoundError:
            raise errors.LaunchError("kubectl is not here: it has to be on PATH") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.LaunchError(f"kubectl {arguments[0]} could not be called: {error}") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            hint = "; is JobSet installed in the cluster?" if "jobset" in said and "no matches for kind" in said else ""
            raise errors.LaunchError(f"kubectl {arguments[0]} exited with {done.returncode}: {said}{hint}")
        return done.stdout


def _is_launcher(pod: Mapping[str, Any]) -> bool:
    return bool(pod["metadata"].get("labels", {}).get("jobset.sigs.k8s.io/replicatedjob-name") == LAUNCHER)


def _is_running(pod: Mapping[str, Any]) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return bool(statuses) and all("running" in each.get("state", {}) for each in statuses)


def _why_pending(pod: Mapping[str, Any]) -> str:
    """Why a pod has not begun; "" where nothing is known, or it has ended."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", []):
        waiting = each.get("state", {}).get("waiting", {})
        if waiting.get("reason") and waiting["reason"] not in {"ContainerCreating", "PodInitializing"}:
            words = _last_line(each.get("lastState", {}).get("terminated", {}).get("message", ""))
            return ": ".join(filter(None, (waiting["reason"], words or waiting.get("message"))))
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    return ""


def _last_words(pods: Sequence[Mapping[str, Any]]) -> str:
    """What the last launcher that has ended left; "" where there is none."""
    ended = [
        (each["state"]["terminated"].get("finishedAt", ""), each["state"]["terminated"].get("message", ""))
        for pod in pods
        if _is_launcher(pod)
        for each in pod.get("status", {}).get("containerStatuses", ())
        if "terminated" in each.get("state", {})
    ]
    return str(max(ended)[1]) if ended else ""


def _last_line(words: str) -> str:
    return words.rstrip().rpartition("\n")[2]
