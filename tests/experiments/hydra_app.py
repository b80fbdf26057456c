"""Hydra's own first example, and what the launcher's tests need of it."""

import hydra
from omegaconf import DictConfig

import kourou.experiments


class Result:
    """Of the script: it travels to the launcher and back."""

    def __init__(self, value: float) -> None:
        self.value = value


@hydra.main(version_base=None, config_path=None)
def my_app(cfg: DictConfig) -> Result:
    if cfg.x == "bad":
        raise ValueError("x is bad")
    kourou.experiments.log(0, doubled=2 * cfg.x)
    print("x is", cfg.x)
    return Result(2 * cfg.x)


if __name__ == "__main__":
    my_app()
