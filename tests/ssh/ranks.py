"""Ranks for the tests. Apart from the other nodes, which need no torch."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


class Learner:
    def sum(self) -> float:
        total = torch.tensor([float(dist.get_rank())])
        dist.all_reduce(total)
        return total.item()

    def variables(self, *names: str) -> list[str]:
        return [os.environ[name] for name in names]
