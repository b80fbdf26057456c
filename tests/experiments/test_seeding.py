"""Streams: rlberry's to the bit, and those of single fits, which depend on no other fit."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from kourou.experiments.seeding import Seeder, safe_reseed, seed_globals, seeder_for
from optional import optional

torch = optional("torch")

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden" / "rlberry_seeder.json").read_text(encoding="utf-8"))
BOUND = 2**31


def draws(seeder: Seeder, count: int = 3) -> list[int]:
    return [int(seeder.rng.integers(BOUND)) for _ in range(count)]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: str(golden["seed"]))
def test_the_streams_are_the_originals(golden: Mapping[str, Any]) -> None:
    # The file's reseeded_integers are left out: the original's reseed() without a seed takes fresh entropy.
    seeder = Seeder(golden["seed"])
    assert draws(seeder, 5) == golden["rng_integers"]
    assert seeder.rng.random(3).tolist() == golden["rng_random"]
    assert [draws(child) for child in seeder.spawn(3)] == golden["spawn3_first_integers"]
    assert draws(seeder.spawn(1)) == golden["spawn1_squeezed_integers"]
    assert seeder.generate_state(4).tolist() == golden["generate_state"]
    assert draws(Seeder(Seeder(golden["seed"]))) == golden["seeder_of_seeder_integers"]


def test_reseeding_is_making_anew() -> None:
    seeder = Seeder(1)
    draws(seeder)
    seeder.reseed(2)
    assert draws(seeder) == draws(Seeder(2))
    seeder.reseed()
    assert draws(seeder) != draws(Seeder(2))


def test_a_seeder_of_a_seeder_advances_it() -> None:
    source = Seeder(3)
    assert draws(Seeder(source)) != draws(Seeder(source))


def test_without_a_seed_all_differ() -> None:
    assert draws(Seeder()) != draws(Seeder())


def test_one_spawn_may_stay_a_list() -> None:
    assert len(Seeder(0).spawn(1, squeeze=False)) == 1
    assert "SeedSequence" in repr(Seeder(0))


@pytest.mark.parametrize("seed", ["1", 1.5, True, -1])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match="a seed is"):
        Seeder(seed)


class TestFits:
    def test_growing_the_number_of_fits_keeps_the_first_ones(self) -> None:
        four = [draws(seeder_for(7, purpose="fit", fit=i)) for i in range(4)]
        eight = [draws(seeder_for(7, purpose="fit", fit=i)) for i in range(8)]
        assert eight[:4] == four
        assert len({tuple(each) for each in eight}) == 8

    def test_no_two_purposes_calls_or_roots_share_a_stream(self) -> None:
        streams = [
            tuple(draws(seeder_for(root, purpose=purpose, fit=fit, call=call)))
            for root in (0, 1)
            for purpose in ("init", "fit", "eval")
            for fit in range(3)
            for call in range(2)
        ]
        assert len(set(streams)) == len(streams)

    def test_the_root_neither_advances_nor_matters_by_its_kind(self) -> None:
        root = Seeder(5)
        before = draws(seeder_for(root, purpose="init", fit=1))
        root.spawn(4)
        assert draws(seeder_for(root, purpose="init", fit=1)) == before
        assert draws(seeder_for(np.random.SeedSequence(5), purpose="init", fit=1)) == draws(
            seeder_for(np.int64(5), purpose="init", fit=1)
        )

    def test_plain_spawns_are_others(self) -> None:
        plain = {tuple(draws(child)) for child in Seeder(np.random.SeedSequence(5), spawn_seed_seq=False).spawn(20)}
        assert tuple(draws(seeder_for(5, purpose="fit", fit=0))) not in plain

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(ValueError, match="one of init, fit, eval"):
            seeder_for(0, purpose="train", fit=0)  # type: ignore[arg-type] # the mistake under test
        with pytest.raises(ValueError, match="count from 0"):
            seeder_for(0, purpose="fit", fit=-1)


def test_the_global_generators_follow_the_seeder() -> None:
    torch_rand = torch.rand  # which imports torch: before that there is nothing to seed

    def globals_after() -> tuple[float, float, float]:
        seed_globals(seeder_for(11, purpose="fit", fit=0))
        return random.random(), float(np.random.rand()), float(torch_rand(1))  # noqa: NPY002 - the global one

    assert globals_after() == globals_after()


class TestSafeReseed:
    class Space:
        def __init__(self) -> None:
            self.seeds: list[int] = []

        def seed(self, seed: int) -> None:
            self.seeds.append(seed)

    def test_the_first_method_that_works_is_used(self) -> None:
        class Both:
            got: ClassVar[list[object]] = []

            def reseed(self) -> None: ...  # a signature of another kind

            def seed(self, seed: int) -> None:
                self.got.append(seed)

        assert safe_reseed(Both(), Seeder(0))
        assert len(Both.got) == 1

    def test_gymnasium_style_environments_and_their_spaces(self) -> None:
        class Env:
            def __init__(self) -> None:
                self.action_space, self.observation_space = TestSafeReseed.Space(), TestSafeReseed.Space()
                self.seeds: list[int] = []

            def reset(self, *, seed: int) -> None:
                self.seeds.append(seed)

        env, seeder, rlberrys = Env(), Seeder(3), Seeder(3).rng
        assert safe_reseed(env, seeder)
        numbers = env.seeds + env.observation_space.seeds + env.action_space.seeds
        assert numbers == [int(rlberrys.integers(2**32)) for _ in range(3)]

    def test_what_takes_a_seeder_gets_the_seeder_itself(self) -> None:
        class Reseeds:
            def reseed(self, seeder: Seeder) -> None:
                self.rng = Seeder(seeder).rng

        thing = Reseeds()
        assert safe_reseed(thing, Seeder(5))
        assert thing.rng.integers(BOUND) == Seeder(Seeder(5)).rng.integers(BOUND)

    def test_spaces_can_be_left_alone(self) -> None:
        class Env:
            action_space = TestSafeReseed.Space()

        assert not safe_reseed(Env(), Seeder(0), reseed_spaces=False)
        assert Env.action_space.seeds == []
