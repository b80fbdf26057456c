"""Tensors and models of torch, and nested values with arrays of both kinds."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from kourou.errors import WeightsError
from kourou.weights import Client
from kourou.weights.loading import moved, only_copies
from optional import is_there, optional
from polling import WAIT_S

torch = optional("torch")
pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(not is_there("torch"), reason="torch is not installed"),
]


DTYPES = [
    "bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int64", "bool",
    "complex64",
]  # fmt: skip


def test_tensors_of_every_dtype_arrive_with_their_bits(client: Client) -> None:
    large = {name: torch.randint(0, 2, (300, 100)).to(getattr(torch, name)) for name in DTYPES}
    small = {f"small {name}": torch.ones(3).to(getattr(torch, name)) for name in DTYPES}
    client.publisher().publish(large | small)
    view = client.subscriber().require(timeout_s=WAIT_S)
    for name, tensor in (large | small).items():
        assert view.weights[name].dtype == tensor.dtype
        assert torch.equal(view.weights[name].view(torch.uint8), tensor.view(torch.uint8))


def test_nested_values_keep_their_structure(client: Client) -> None:
    base = torch.arange(20_000.0).reshape(100, 200)
    value = OrderedDict(
        layers=[{"w": np.full((50, 50), 0.5, np.float16), "b": np.float32(2)}, (1, "x", None)],
        view=base[:, ::2],
        transposed=base.T,
        fortran=np.asfortranarray(np.arange(6_000).reshape(60, 100)),
        scalar=torch.tensor(1.5),
        empty=np.empty((0, 3)),
    )
    value["tied"] = value["transposed"]
    client.publisher().publish(value)
    got = client.subscriber().require(timeout_s=WAIT_S).weights
    assert type(got) is OrderedDict
    assert got["layers"][0]["w"].dtype == np.float16
    assert got["layers"][1] == (1, "x", None)
    assert torch.equal(got["view"], base[:, ::2])
    assert torch.equal(got["transposed"], base.T)
    assert got["tied"].data_ptr() == got["transposed"].data_ptr()
    np.testing.assert_array_equal(got["fortran"], value["fortran"])
    assert got["empty"].shape == (0, 3)
    assert (got["layers"][0]["b"], float(got["scalar"])) == (2, 1.5)


def test_weights_with_fewer_bits(client: Client) -> None:
    # given weights of several kinds, published as bfloat16
    model, other = torch.nn.Linear(100, 200), torch.nn.Linear(100, 200)
    step = np.arange(3)
    wide = {"model": model.state_dict(), "numpy": [np.linspace(0, 1, 5_000), step]}
    client.publisher().publish(wide, cast="bfloat16")
    view = client.subscriber().require(timeout_s=WAIT_S)
    # when they are read, then all that were wider have two bytes, and the others are as they were
    assert {tensor.dtype for tensor in view.weights["model"].values()} == {torch.bfloat16}
    assert [array.dtype.name for array in view.weights["numpy"]] == ["bfloat16", step.dtype.name]
    # and they can be loaded into what is wider
    own = {"model": other.state_dict(), "numpy": [np.zeros(5_000), np.zeros_like(step)]}
    view.load_into(own)
    assert torch.equal(other.weight, model.weight.bfloat16().float())
    np.testing.assert_allclose(own["numpy"][0], wide["numpy"][0], rtol=0.01)
    for weights, to in ((wide, "int8"), ({"step": step}, "float16")):
        with pytest.raises(WeightsError, match=to):
            client.publisher().publish(weights, cast=to)


def test_what_a_reader_changes_is_its_own(client: Client) -> None:
    client.publisher().publish({"w": torch.zeros(10_000)})
    first, second = (client.subscriber().require(timeout_s=WAIT_S) for _ in range(2))
    first.weights["w"].add_(1)
    assert second.weights["w"].sum() == 0
    assert client.subscriber().require().weights["w"].sum() == 0


def test_loading_in_place(client: Client) -> None:
    model, other = torch.nn.Linear(100, 200), torch.nn.Linear(100, 200)
    client.publisher().publish({"model": model.state_dict(), "extra": [np.arange(3.0), torch.ones(2)]})
    view = client.subscriber().require(timeout_s=WAIT_S)
    arrays = {"model": other.state_dict(), "extra": [np.zeros(3), torch.zeros(2)]}
    view.load_into(arrays)
    assert torch.equal(other.weight, model.weight)
    np.testing.assert_array_equal(arrays["extra"][0], np.arange(3.0))
    with pytest.raises(WeightsError, match=r"weights\['extra'\]\[0\] cannot be loaded: an array of \(4,\)"):
        view.load_into({"model": other.state_dict(), "extra": [np.zeros(4), torch.zeros(2)]})
    with pytest.raises(WeightsError, match="at the top: extra"):
        view.load_into({"model": other.state_dict()})
    client.publisher("m").publish(model.state_dict())
    third = torch.nn.Linear(100, 200)
    client.subscriber("m").require(timeout_s=WAIT_S).load_into(third)
    assert torch.equal(third.bias, model.bias)


def test_what_is_loaded_is_copied_whoever_keeps_it(client: Client) -> None:
    # given targets that copy what they load, and others that may keep it
    model, tied = torch.nn.Sequential(torch.nn.Linear(100, 200), torch.nn.BatchNorm1d(200)), torch.nn.Linear(3, 3)
    tied.register_load_state_dict_pre_hook(lambda *_: None)
    assert [only_copies(target) for target in ([np.zeros(3)], model)] == [True, True]
    assert [only_copies(target) for target in (tied, torch.optim.Adam(model.parameters()))] == [False, False]
    # when version after version is loaded, then each target has that one, also once its slot has another
    publisher, subscriber, kept = client.publisher(), client.subscriber(), []
    for version in range(1, 8):
        with torch.no_grad():
            model[0].weight.fill_(version)
        publisher.publish({"model": model.state_dict()}, version)
        other = {"model": {name: torch.empty_like(part) for name, part in model.state_dict().items()}}
        subscriber.require(timeout_s=WAIT_S).load_into(other)
        kept.append(other["model"]["0.weight"])
    assert [float(weight.mean()) for weight in kept] == list(range(1, 8))
    # and a module may be loaded by itself, from memory that stays mapped
    for version in (1, 2, 3):
        with torch.no_grad():
            model[0].weight.fill_(version)
        client.publisher("m").publish(model.state_dict())
        loaded = torch.nn.Sequential(torch.nn.Linear(100, 200), torch.nn.BatchNorm1d(200))
        client.subscriber("m").require(timeout_s=WAIT_S).load_into(loaded)
        assert torch.equal(loaded[0].weight, model[0].weight)


def test_tensors_move_to_a_device_in_one_piece() -> None:
    tensors = {name: torch.randint(0, 2, (7, 3)).to(getattr(torch, name)) for name in DTYPES}
    tensors |= {"turned": torch.arange(6.0).reshape(2, 3).T, "none": torch.empty(0, 3), "one": torch.tensor(1.5)}
    there = moved(tensors, torch.device("cpu"), pinned=False)
    assert len({tensor.untyped_storage().data_ptr() for tensor in there.values()}) == 1
    for name, tensor in tensors.items():
        assert (there[name].dtype, there[name].shape) == (tensor.dtype, tensor.shape)
        got, wanted = (one.reshape(-1).contiguous().view(torch.uint8) for one in (there[name], tensor))
        assert torch.equal(got, wanted)
