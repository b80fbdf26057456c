"""What a Kubernetes cluster with JobSet refuses, as far as that can be known without one."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optional import optional

jsonschema, kubernetes_validate = optional("jsonschema"), optional("kubernetes_validate")

__all__ = ["check_manifest"]

VERSION = "1.33"
_SCHEMA = Path(__file__).parent / "data" / "jobset_v1alpha2.json"
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035
_SECRET_BYTES = 1 << 20


def check_manifest(document: Mapping[str, Any]) -> None:
    """Raise for an object that the API server, or JobSet's webhook, would refuse; or whose fields it does not know."""
    if document["kind"] != "JobSet":
        kubernetes_validate.validate(dict(document), VERSION, strict=True)
        if document["kind"] == "Secret":
            assert len(json.dumps(document)) < 1.4 * _SECRET_BYTES
        return
    _job_set_schema().validate(document)
    name = document["metadata"]["name"]
    names = [job["name"] for job in document["spec"]["replicatedJobs"]]
    assert len(set(names)) == len(names)
    assert set(document["spec"].get("successPolicy", {}).get("targetReplicatedJobs", ())) <= set(names)
    for replicated in document["spec"]["replicatedJobs"]:
        job = replicated["template"]["spec"]
        kubernetes_validate.validate(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job}, VERSION, strict=True
        )
        _check_job(job)
        assert _LABEL.fullmatch(f"{name}-{replicated['name']}-0-{job['completions'] - 1}-abcde")


def _check_job(job: Mapping[str, Any]) -> None:
    """Rules that no schema tells: those of the API server's own validation."""
    pod = job["template"]["spec"]
    if "podFailurePolicy" in job:
        assert pod["restartPolicy"] == "Never"
        assert job["podReplacementPolicy"] == "Failed"
    if "backoffLimitPerIndex" in job:
        assert job["completionMode"] == "Indexed"
        assert pod["restartPolicy"] == "Never"
    assert pod["restartPolicy"] in {"Never", "OnFailure"}
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)
    for container in pod["containers"]:
        variables = [entry["name"] for entry in container["env"]]
        assert len(set(variables)) == len(variables), "server-side apply refuses a variable that is named twice"
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        resources = container["resources"]
        for what, amount in resources.get("limits", {}).items():
            assert what == "cpu" or resources["requests"].get(what) == amount
        # what the Pod Security Standard "restricted" wants
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@functools.cache
def _job_set_schema() -> Any:
    schema = json.loads(_SCHEMA.read_text("utf-8"))
    for each in _objects(schema):
        each.setdefault("additionalProperties", False)
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Those whose fields are listed: others are unknown, and would be dropped without a word."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
            yield schema
        for each in schema.values():
            yield from _objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _objects(each)
