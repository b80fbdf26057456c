"""What is handed to Kubernetes for a program: a JobSet, and what belongs to it and goes with it. Pure."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kourou.runtime.host_agent import pod
from kourou.runtime.host_agent.dialling import NAME_VARIABLE
from kourou.runtime.model.engine_options import Kubernetes
from kourou.runtime.model.engines import HostNeeds, Shape

LAUNCHER = "launcher"
"""Name of the launcher's ReplicatedJob, and of its container."""
PORT = 7433
"""Where agents call a launcher in a pod, which has an address of its own."""
PRESENT = "jobset.sigs.k8s.io/jobset-name"
"""The label of all pods of a JobSet."""

_HOST = "host"
_QUEUE = "kueue.x-k8s.io/queue-name"
_COUNTED = "batch.kubernetes.io/job-index-failure-count"
_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
_NO_LIMIT = 2**31 - 1
_AGENTS_MIB = 512  # and what its nodes share
_PIECE_BYTES = 768 << 10  # a Secret may have a MiB
_FILE_MODE = 0o440
_MARGIN_S = 10  # of the grace that a pod gets, beyond what a stop takes
_LONGEST_PROGRAM = 16  # a pod's name has 63 characters, and others add to it
_LAUNCHERS_FAILURES = [1, 2]  # exit codes of a program that failed, or could not be started: no use in another try


def job_set_name(run_id: str) -> str:
    """What Kubernetes takes for a name: the program's, shortened, and what tells the run from others."""
    program, *rest = run_id.rsplit("-", 3)
    readable = re.sub(r"[^a-z0-9]+", "-", program.lower())[:_LONGEST_PROGRAM].strip("-")
    name = "-".join([readable, *rest])
    return name if name[:1].isalpha() else f"p{name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSetPlan:
    """A program's JobSet."""

    options: Kubernetes
    run_id: str
    shape: Shape
    stop_s: float
    """A stop's longest."""
    tree: bytes | None = dataclasses.field(default=None, repr=False)
    """The packed folder that travels into the pods."""
    path: tuple[str, ...] = ()
    """Folders in it that modules are imported from."""
    plan: bytes | None = dataclasses.field(default=None, repr=False)
    """What the launcher brings to life; None: it is not in the JobSet, but where this is made."""

    @property
    def name(self) -> str:
        """The JobSet's, and of what belongs to it."""
        return job_set_name(self.run_id)

    @property
    def address(self) -> str:
        """The name that the launcher's pod is found by."""
        return f"{self.name}-{LAUNCHER}-0-0.{self.name}"

    def job_set(self) -> dict[str, Any]:
        """The JobSet."""
        options = self.options
        metadata = self._metadata()
        if options.queue is not None:
            metadata["labels"] = {_QUEUE: options.queue}
        jobs = [self._launchers_job()] if self.plan is not None else []
        kinds = list(dict.fromkeys(self.shape.each))
        for number, needs in enumerate(kinds):
            places = [place for place, each in enumerate(self.shape.each) if each == needs]
            jobs.append(self._hosts_job("hosts" if len(kinds) == 1 else f"hosts{number}", needs, places))
        spec: dict[str, Any] = {
            "network": {"enableDNSHostnames": True, "subdomain": self.name, "publishNotReadyAddresses": True},
            "ttlSecondsAfterFinished": options.ttl_s if self.plan is not None else 0,
        }
        if self.plan is not None:
            spec["successPolicy"] = {"operator": "All", "targetReplicatedJobs": [LAUNCHER]}
        spec["replicatedJobs"] = jobs
        return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec}

    def owned(self, uid: str, secrets: Mapping[str, str]) -> list[dict[str, Any]]:
        """What belongs to the JobSet of this uid, and is deleted with it.

        Args:
            uid: Kubernetes' own name of the JobSet.
            secrets: file → content, of the Secret that lets agents call.
        """
        pods = {"podSelector": {"matchLabels": {PRESENT: self.name}}}
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self._metadata("", uid),
            "spec": {**pods, "policyTypes": ["Ingress"], "ingress": [{"from": [pods]}]},
        }
        return [
            *(
                [policy] if self.plan is not None else []
            ),  # else the launcher, which is no pod of it, calls nodes as well
            {**self._secret("", uid), "stringData": dict(secrets)},
            *(
                {**self._secret(suffix, uid), "data": {name: base64.b64encode(piece).decode("ascii")}}
                for suffix, name, piece in self._pieces()
            ),
        ]

    def shown(self) -> list[dict[str, Any]]:
        """All of it as people are shown it: no secret, and none of the bytes that travel."""
        secrets = dict.fromkeys(self._files(launcher=True), "(made when it is submitted)")
        documents = [self.job_set(), *self.owned("(the JobSet's)", secrets)]
        pieces = {f"{self.name}{suffix}": len(piece) for suffix, _, piece in self._pieces()}
        for document in documents:
            if size := pieces.get(document["metadata"]["name"]):
                document["data"] = dict.fromkeys(document["data"], f"({size} bytes)")
        return documents

    # -- pods -----------------------------------------------------------------------------------------------------

    def _launchers_job(self) -> dict[str, Any]:
        env = [
            {"name": pod.RUN_ID, "value": self.run_id},
            {"name": pod.MADE_BY, "value": f"{sys.version_info[0]}.{sys.version_info[1]}"},
            {"name": "KOUROU_RUNS_DIR", "value": f"{pod.CLAIM if self.options.claim else pod.WORK}/runs"},
            _from_field(pod.COUNTED, f"metadata.annotations['{_COUNTED}']"),
            _from_field(pod.IGNORED, f"metadata.annotations['{_IGNORED}']"),
        ]
        container = self._container(LAUNCHER, "from kourou.runtime.launch.batch.pod import main; main()", env)
        container["resources"] = {"requests": dict(self.options.launcher)}
        spec = self._pod(container, launcher=True)
        job = {
            "parallelism": 1,
            "completions": 1,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": self.options.restarts,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": LAUNCHER, "operator": "In", "values": _LAUNCHERS_FAILURES},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"spec": {**spec, "restartPolicy": "Never"}},
        }
        return {"name": LAUNCHER, "replicas": 1, "template": {"spec": job}}

    def _hosts_job(self, name: str, needs: HostNeeds, places: Sequence[int]) -> dict[str, Any]:
        env = [{"name": pod.PLACES, "value": ",".join(map(str, places))}, _from_field(NAME_VARIABLE, "metadata.name")]
        if self.plan is None:
            env.append({"name": pod.ONCE, "value": "1"})
        container = self._container(_HOST, "from kourou.runtime.host_agent.pod import main; main()", env)
        container["resources"] = self._resources(needs)
        spec = self._pod(container, launcher=False)
        options = self.options
        if options.node_selector:
            spec["nodeSelector"] = dict(options.node_selector)
        if options.tolerations:
            spec["tolerations"] = [_toleration(each) for each in options.tolerations]
        job = {
            "parallelism": len(places),
            "completions": len(places),
            "completionMode": "Indexed",
            "backoffLimit": _NO_LIMIT,  # it is the launcher that gives up
            "template": {"spec": {**spec, "restartPolicy": "OnFailure"}},
        }
        return {"name": name, "replicas": 1, "template": {"spec": job}}

    def _pod(self, container: dict[str, Any], *, launcher: bool) -> dict[str, Any]:
        options = self.options
        user = {} if options.run_as_user is None else {"runAsUser": options.run_as_user}
        spec: dict[str, Any] = {
            "terminationGracePeriodSeconds": int(self.stop_s) + _MARGIN_S,
            "enableServiceLinks": False,
            "automountServiceAccountToken": options.service_account is not None,
            "securityContext": {
                "runAsNonRoot": True,
                **user,
                "fsGroup": options.run_as_user or 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        if options.service_account is not None:
            spec["serviceAccountName"] = options.service_account
        if options.priority_class is not None:
            spec["priorityClassName"] = options.priority_class
        if options.image_pull_secret is not None:
            spec["imagePullSecrets"] = [{"name": options.image_pull_secret}]
        volumes = self._volumes(launcher=launcher)
        container["volumeMounts"] = [
            {"name": name, "mountPath": path, **({"readOnly": True} if "emptyDir" not in volume and not claim else {})}
            for name, path, volume in volumes
            for claim in ["persistentVolumeClaim" in volume]
        ]
        spec["containers"] = [container]
        spec["volumes"] = [{"name": name, **volume} for name, _, volume in volumes]
        return spec

    def _container(self, name: str, statement: str, env: Sequence[dict[str, Any]]) -> dict[str, Any]:
        options = self.options
        home = {} if options.run_as_user is None else {"HOME": pod.WORK, "USER": "kourou"}  # a user without an entry
        known = {**home, pod.PATH: ":".join(self.path), **options.env}
        return {
            "name": name,
            "image": options.image,
            "command": [options.python, "-u", "-c", statement],
            "terminationMessagePath": pod.LAST_WORDS,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "env": [*({"name": key, "value": value} for key, value in known.items()), *env],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }

    def _resources(self, needs: HostNeeds) -> dict[str, Any]:
        options = self.options
        limits = {
            "cpu": str(needs.cpus) if options.cpus_per_node else None,  # others may use what is idle
            "memory": options.memory or _with_agent(needs.memory_bytes),
            "ephemeral-storage": options.ephemeral_storage,
            options.gpu_resource: str(needs.gpus) if needs.gpus else None,
        }
        said = {name: amount for name, amount in limits.items() if amount is not None}
        return {"requests": {"cpu": str(needs.cpus), **said}, **({"limits": said} if said else {})}

    def _volumes(self, *, launcher: bool) -> list[tuple[str, str, dict[str, Any]]]:
        """Name, path in the container, and what is mounted there."""
        limit = {} if self.options.shm is None else {"sizeLimit": self.options.shm}
        files = [{"key": name, "path": name} for name in self._files(launcher=launcher)]
        volumes: list[tuple[str, str, dict[str, Any]]] = [
            ("shm", "/dev/shm", {"emptyDir": {"medium": "Memory", **limit}}),  # noqa: S108 - which has 64 MB by default
            ("work", pod.WORK, {"emptyDir": {}}),
            ("secret", pod.SECRET, {"secret": {"secretName": self.name, "items": files, "defaultMode": _FILE_MODE}}),
        ]
        for what, where in (("tree", pod.TREE_PARTS), ("plan", pod.PLAN_PARTS)):
            names = [f"{self.name}{suffix}" for suffix, _, _ in self._pieces() if suffix.startswith(f"-{what}")]
            if names and (launcher or what == "tree"):
                sources = [{"secret": {"name": name}} for name in names]
                volumes.append((what, where, {"projected": {"sources": sources, "defaultMode": _FILE_MODE}}))
        if self.options.claim is not None:
            volumes.append(("claim", pod.CLAIM, {"persistentVolumeClaim": {"claimName": self.options.claim}}))
        return volumes

    # -- what belongs to it ---------------------------------------------------------------------------------------

    def _files(self, *, launcher: bool) -> list[str]:
        return [pod.ORDER, pod.AUTHORITY] if launcher and self.plan is not None else [pod.ORDER]

    def _pieces(self) -> list[tuple[str, str, bytes]]:
        """The Secrets that hold what travels: suffix of the name, file, and content."""
        return [
            (f"-{what}-{number}", f"{number:04}", content[start : start + _PIECE_BYTES])
            for what, content in (("tree", self.tree), ("plan", self.plan))
            if content is not None
            for number, start in enumerate(range(0, len(content), _PIECE_BYTES))
        ]

    def _secret(self, suffix: str, uid: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": self._metadata(suffix, uid), "type": "Opaque"}

    def _metadata(self, suffix: str = "", owner: str | None = None) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": f"{self.name}{suffix}"}
        if self.options.namespace is not None:
            metadata["namespace"] = self.options.namespace
        if owner is not None:
            of = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "name": self.name, "uid": owner}
            metadata["ownerReferences"] = [of]
        return metadata


def _with_agent(memory_bytes: int) -> str | None:
    """What a host needs whose nodes need so much; None: nobody has said."""
    return f"{math.ceil(memory_bytes / (1 << 20)) + _AGENTS_MIB}Mi" if memory_bytes else None


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _toleration(text: str) -> dict[str, str]:
    """``key=value:Effect``, as ``kubectl taint`` writes it."""
    taint, _, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    how = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **how, **({"effect": effect} if effect else {})}
