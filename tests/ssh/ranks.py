"""Ranks for the tests."""

from __future__ import annotations

import os

from optional import optional

torch = optional("torch")
dist = optional("torch.distributed")


class Learner:
    def sum(self) -> float:
        total = torch.tensor([float(dist.get_rank())])
        dist.all_reduce(total)
        result: float = total.item()
        return result

    def variables(self, *names: str) -> list[str]:
        return [os.environ[name] for name in names]
