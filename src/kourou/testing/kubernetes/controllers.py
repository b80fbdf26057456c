"""What becomes of objects: JobSet's, Job's and Kueue's controllers, the scheduler, and the node's agent, one step each.

They do what kourou leans on, and in a second what takes a cluster minutes (back-offs). Not there: what a NetworkPolicy
forbids, images, probes, quotas, and JobSet's own restarts.
"""

from __future__ import annotations

import copy
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kourou.testing.kubernetes.kubelet import Sandbox, Unmountable

Object = dict[str, Any]

_JOBSET = "jobset.sigs.k8s.io/jobset-name"
_REPLICATED = "jobset.sigs.k8s.io/replicatedjob-name"
_INDEX = "batch.kubernetes.io/job-completion-index"
_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
_QUEUE = "kueue.x-k8s.io/queue-name"
_BACKOFF_S = 0.2
_OVER = ("Complete", "Completed", "Failed")
_ALIVE = ("Pending", "Running")


def condition(thing: Mapping[str, Any], *kinds: str) -> Object | None:
    """The condition of one of these types that is true."""
    for each in thing.get("status", {}).get("conditions", ()):
        if each["type"] in kinds and each["status"] == "True":
            return dict(each)
    return None


class Controllers:
    """Objects by kind and name. Nothing here is locked: it is its owner's, who calls :meth:`step` again and again.

    Args:
        nodes: name → resource → how much of it there is.
        make_sandbox: starts nothing yet; raises :class:`Unmountable`.
        held: Kueue's queues that admit nothing, with what Kueue says.
    """

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, float]],
        make_sandbox: Callable[[Object], Sandbox],
        held: dict[str, str],
    ) -> None:
        kinds = ("jobset", "job", "pod", "secret", "networkpolicy", "workload", "event")
        self.objects: dict[str, dict[str, Object]] = {kind: {} for kind in kinds}
        self.sandboxes: dict[str, Sandbox] = {}
        """Of pods that run."""
        self._nodes = nodes
        self._make_sandbox = make_sandbox
        self._held = held
        self._kept: dict[str, Object] = {}  # what controllers remember, by uid

    def step(self) -> None:
        """Everything as far as it can go now."""
        for job_set in list(self.objects["jobset"].values()):
            self._step_job_set(job_set)
        for pod in list(self.objects["pod"].values()):
            self._step_pod(pod)
        for job in list(self.objects["job"].values()):
            self._step_job(job)
        self._collect()

    def add(self, kind: str, thing: Object) -> Object:
        """A new object, or another version of one."""
        there = self.objects[kind].get(thing["metadata"]["name"])
        if there is not None:
            there.update({**thing, "metadata": {**there["metadata"], **thing["metadata"]}})
            return there
        thing["metadata"]["uid"] = thing["metadata"].get("uid") or secrets.token_hex(8)
        thing["metadata"]["creationTimestamp"] = time.time()
        self.objects[kind][thing["metadata"]["name"]] = thing
        queue = thing["metadata"].get("labels", {}).get(_QUEUE)
        if kind == "jobset" and queue is not None:
            thing["spec"]["suspend"] = True
        return thing

    def delete(self, kind: str, name: str) -> None:
        """As ``kubectl delete`` does: a pod gets its time to end, and what belongs to a thing goes after it."""
        if kind != "pod":
            del self.objects[kind][name]
            return
        pod = self.objects["pod"][name]
        if "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"]["deletionTimestamp"] = time.time()
            self._memory(pod)["kill_at"] = time.monotonic() + pod["spec"].get("terminationGracePeriodSeconds", 30)
            if name in self.sandboxes:
                self.sandboxes[name].signal(signal.SIGTERM)

    # -- JobSet, and Kueue -----------------------------------------------------------------------------------------

    def _step_job_set(self, job_set: Object) -> None:
        spec, name = job_set["spec"], job_set["metadata"]["name"]
        if ended := condition(job_set, *_OVER):
            if (ttl := spec.get("ttlSecondsAfterFinished")) is not None and time.time() - ended["at"] >= ttl:
                self.delete("jobset", name)
            return
        if spec.get("suspend") and not self._admitted(job_set):
            return
        for each in spec["replicatedJobs"]:
            if f"{name}-{each['name']}-0" not in self.objects["job"]:
                self._add_job(job_set, each)
        jobs = {job["metadata"]["labels"][_REPLICATED]: job for job in self._owned("job", job_set)}
        failed = [job for job in jobs.values() if condition(job, "Failed")]
        targets = spec.get("successPolicy", {}).get("targetReplicatedJobs") or list(jobs)
        if failed:
            first = failed[0]["metadata"]["name"]
            why = (condition(failed[0], "Failed") or {})["message"]
            self._conclude(job_set, "Failed", f"jobset failed due to one or more job failures (first: {first}): {why}")
        elif all(condition(jobs[target], "Complete") for target in targets):
            self._conclude(job_set, "Completed", "jobset completed successfully")
        else:
            return
        for job in jobs.values():
            if not condition(job, *_OVER):
                self.delete("job", job["metadata"]["name"])

    def _admitted(self, job_set: Object) -> bool:
        metadata = job_set["metadata"]
        held = self._held.get(metadata.get("labels", {}).get(_QUEUE, ""))
        labels = {"kueue.x-k8s.io/job-uid": metadata["uid"]}
        status = {
            "conditions": [_condition("QuotaReserved", "Pending", held or "", status="False" if held else "True")]
        }
        owner = {"name": f"jobset-{metadata['name']}", "labels": labels, "ownerReferences": [{"uid": metadata["uid"]}]}
        self.add("workload", {"kind": "Workload", "metadata": owner, "status": status})
        job_set["spec"]["suspend"] = held is not None
        return held is None

    def _add_job(self, job_set: Object, replicated: Mapping[str, Any]) -> None:
        name = job_set["metadata"]["name"]
        labels = {_JOBSET: name, _REPLICATED: replicated["name"]}
        spec = copy.deepcopy(replicated["template"]["spec"])
        spec["template"]["spec"]["subdomain"] = job_set["spec"].get("network", {}).get("subdomain", name)
        metadata = {
            "name": f"{name}-{replicated['name']}-0",
            "labels": labels,
            "ownerReferences": [{"uid": job_set["metadata"]["uid"]}],
        }
        self.add("job", {"kind": "Job", "metadata": metadata, "spec": spec})

    # -- Job -------------------------------------------------------------------------------------------------------

    def _step_job(self, job: Object) -> None:
        if condition(job, *_OVER):
            return
        spec = job["spec"]
        pods: dict[int, list[Object]] = {index: [] for index in range(spec["completions"])}
        for pod in self._owned("pod", job):
            pods[int(pod["metadata"]["annotations"][_INDEX])].append(pod)
        self._count_ends(job, pods)
        if condition(job, *_OVER):
            for pod in (pod for those in pods.values() for pod in those if pod["status"]["phase"] in _ALIVE):
                self.delete("pod", pod["metadata"]["name"])
            return
        memory = self._memory(job)
        for index, those in pods.items():
            waits = index in memory.get("done", ()) or time.monotonic() < memory.get(f"again {index}", 0.0)
            if not waits and not any(self._counts_as_there(job, pod) for pod in those):
                self._add_pod(job, index)

    def _count_ends(self, job: Object, pods: Mapping[int, list[Object]]) -> None:
        for index, those in pods.items():
            for pod in those:
                if pod["status"]["phase"] not in _ALIVE and not self._memory(pod).get("counted"):
                    self._memory(pod)["counted"] = True
                    self._count(job, index, pod)
        if len(self._memory(job).get("done", ())) == job["spec"]["completions"]:
            self._conclude(job, "Complete", "Reached expected number of succeeded pods")

    def _counts_as_there(self, job: Object, pod: Object) -> bool:
        default = "Failed" if "podFailurePolicy" in job["spec"] else "TerminatingOrFailed"
        waits = job["spec"].get("podReplacementPolicy", default) == "Failed"
        return pod["status"]["phase"] in _ALIVE and (waits or "deletionTimestamp" not in pod["metadata"])

    def _count(self, job: Object, index: int, pod: Object) -> None:
        memory, spec = self._memory(job), job["spec"]
        if pod["status"]["phase"] == "Succeeded":
            memory.setdefault("done", set()).add(index)
            return
        action = _action(spec.get("podFailurePolicy", {}).get("rules", ()), pod)
        if action == "FailJob":
            code = _exit_code(pod)
            text = f"Container exited with {code}, which matches a FailJob rule (pod {pod['metadata']['name']})"
            self._conclude(job, "Failed", text, reason="PodFailurePolicy")
            return
        kind = "ignored" if action == "Ignore" else "failures"
        counts = memory.setdefault(kind, {})
        counts[index] = counts.get(index, 0) + 1
        memory[f"again {index}"] = time.monotonic() + (_BACKOFF_S if kind == "failures" else 0)
        failures = memory.get("failures", {})
        if failures.get(index, 0) > spec.get("backoffLimitPerIndex", 2**31):
            self._conclude(job, "Failed", "Job has failed indexes", reason="FailedIndexes")
        elif sum(failures.values()) > spec.get("backoffLimit", 2**31 if "backoffLimitPerIndex" in spec else 6):
            self._conclude(job, "Failed", "Job has reached the specified backoff limit", reason="BackoffLimitExceeded")

    def _add_pod(self, job: Object, index: int) -> None:
        memory, name = self._memory(job), job["metadata"]["name"]
        spec = copy.deepcopy(job["spec"]["template"]["spec"])
        spec["hostname"] = f"{name}-{index}"
        for container in spec["containers"]:
            container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        annotations = {_INDEX: str(index)}
        if "backoffLimitPerIndex" in job["spec"]:
            annotations[_FAILURES] = str(memory.get("failures", {}).get(index, 0))
            annotations[_IGNORED] = str(memory.get("ignored", {}).get(index, 0))
        metadata = {
            "name": f"{name}-{index}-{secrets.token_hex(3)[:5]}",
            "labels": dict(job["metadata"]["labels"]),
            "annotations": annotations,
            "ownerReferences": [{"uid": job["metadata"]["uid"]}],
        }
        self.add("pod", {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})

    # -- the scheduler, and the nodes ------------------------------------------------------------------------------

    def _step_pod(self, pod: Object) -> None:
        name, status = pod["metadata"]["name"], pod["status"]
        leaves = "deletionTimestamp" in pod["metadata"]
        if status["phase"] not in _ALIVE:
            if leaves and self._memory(pod).get("counted", not self._owner_lives(pod)):
                del self.objects["pod"][name]
        elif name in self.sandboxes:
            self._watch(pod, leaves=leaves)
        elif leaves:
            status["phase"] = "Failed"
        elif self._schedule(pod):
            self._start(pod)

    def _schedule(self, pod: Object) -> bool:
        if "nodeName" in pod["spec"]:
            return True
        wants, lacking = _requests(pod), []
        for node, there in self._nodes.items():
            taken = [p for p in self.objects["pod"].values() if p["spec"].get("nodeName") == node]
            used = [_requests(p) for p in taken if p["status"]["phase"] in _ALIVE]
            missing = [
                what
                for what, amount in wants.items()
                if amount + sum(each.get(what, 0) for each in used) > there.get(what, 0)
            ]
            if not missing:
                pod["spec"]["nodeName"] = node
                pod["status"]["conditions"] = [_condition("PodScheduled", "", "")]
                return True
            lacking.append(missing[0])
        count = len(self._nodes)
        told = ", ".join(f"{lacking.count(what)} Insufficient {what}" for what in dict.fromkeys(lacking))
        text = f"0/{count} nodes are available: {told}."
        pod["status"]["conditions"] = [_condition("PodScheduled", "Unschedulable", text, status="False")]
        return False

    def _start(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        try:
            sandbox = self._make_sandbox(pod)
        except Unmountable as error:
            self._set_state(pod, waiting={"reason": "ContainerCreating", "message": str(error)})
            return
        self.sandboxes[name] = sandbox
        pod["status"]["podIP"] = sandbox.address
        sandbox.start()
        pod["status"]["phase"] = "Running"
        self._set_state(pod, running={})

    def _watch(self, pod: Object, *, leaves: bool) -> None:
        name, memory = pod["metadata"]["name"], self._memory(pod)
        sandbox = self.sandboxes[name]
        code = sandbox.exit_code()
        if code is None:
            if leaves and time.monotonic() > memory["kill_at"]:
                sandbox.signal(signal.SIGKILL)
            return
        again = pod["spec"]["restartPolicy"] == "OnFailure" and code != 0 and not leaves
        if not again:
            pod["status"]["phase"] = "Failed" if code else "Succeeded"
            ended = {"exitCode": code, "message": sandbox.last_words(code), "finishedAt": f"{time.time():f}"}
            self._set_state(pod, terminated=ended)
            self.sandboxes.pop(name).close()
        elif "again" not in memory:
            memory["again"] = time.monotonic() + _BACKOFF_S
            memory["last"] = {"terminated": {"exitCode": code, "message": sandbox.last_words(code)}}
            self._set_state(pod, waiting={"reason": "CrashLoopBackOff", "message": f"it exited with {code}"})
        elif time.monotonic() >= memory["again"]:
            del memory["again"]
            memory["restarts"] = memory.get("restarts", 0) + 1
            sandbox.start()
            self._set_state(pod, running={})

    def _set_state(self, pod: Object, **state: Object) -> None:
        name, restarts = pod["spec"]["containers"][0]["name"], self._memory(pod).get("restarts", 0)
        last = self._memory(pod).get("last", {})
        status = {"name": name, "state": state, "lastState": last, "restartCount": restarts}
        pod["status"]["containerStatuses"] = [status]

    # -- all of them -----------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """What belonged to something that is no more goes after it."""
        known = {thing["metadata"]["uid"] for each in self.objects.values() for thing in each.values()}
        for kind, each in self.objects.items():
            for name, thing in list(each.items()):
                owners = [owner["uid"] for owner in thing["metadata"].get("ownerReferences", ())]
                if owners and not known.intersection(owners):
                    self.delete(kind, name)

    def _owner_lives(self, pod: Object) -> bool:
        owner = pod["metadata"]["ownerReferences"][0]["uid"]
        return any(job["metadata"]["uid"] == owner for job in self.objects["job"].values())

    def _owned(self, kind: str, owner: Object) -> Iterator[Object]:
        uid = owner["metadata"]["uid"]
        for thing in list(self.objects[kind].values()):
            if any(each["uid"] == uid for each in thing["metadata"].get("ownerReferences", ())):
                yield thing

    def _memory(self, thing: Object) -> Object:
        return self._kept.setdefault(thing["metadata"]["uid"], {})

    def _conclude(self, thing: Object, kind: str, message: str, reason: str = "") -> None:
        if condition(thing, *_OVER) is None:
            conditions = thing.setdefault("status", {}).setdefault("conditions", [])
            conditions.append({**_condition(kind, reason or kind, message), "at": time.time()})


def _condition(kind: str, reason: str, message: str, *, status: str = "True") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _exit_code(pod: Object) -> int:
    statuses = pod["status"].get("containerStatuses", ())
    return next((each["state"]["terminated"]["exitCode"] for each in statuses if "terminated" in each["state"]), -1)


def _action(rules: Any, pod: Object) -> str:
    """What a Job's podFailurePolicy makes of a pod that failed."""
    for rule in rules:
        codes = rule.get("onExitCodes")
        if codes is not None and (_exit_code(pod) in codes["values"]) == (codes["operator"] == "In"):
            return str(rule["action"])
        if any(condition(pod, each["type"]) for each in rule.get("onPodConditions", ())):
            return str(rule["action"])
    return "Count"


def _requests(pod: Object) -> dict[str, float]:
    totals: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        for what, amount in container.get("resources", {}).get("requests", {}).items():
            totals[what] = totals.get(what, 0) + _amount(str(amount))
    return totals


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}


def _amount(text: str) -> float:
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text[: -len(unit)]) * factor
    return float(text)
