"""A public fake of a Kubernetes cluster with JobSet: pods are real processes in namespaces of their own.

Start with ``cluster``; then ``controllers`` (what becomes of objects: pure but for the pods that they start and end),
``kubelet`` (a pod's processes) and ``kubectl`` (the command).
"""

from kourou.testing.kubernetes.cluster import FakeCluster, FakePod

__all__ = ["FakeCluster", "FakePod"]
