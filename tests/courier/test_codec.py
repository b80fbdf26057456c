"""Values that cross: what arrives equals what was sent, is the receiver's own and can be changed."""

import copyreg
import datetime
import importlib
import importlib.machinery
import multiprocessing
import pickle
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from fuzzing import examples
from kourou import courier
from kourou.courier import Client, Server, new_token
from kourou.courier.wire import codec, failures
from kourou.courier.wire.frames import Frame, FrameParser, Kind, pack
from kourou.errors import RemoteError, SerializationError
from optional import optional

torch = optional("torch")


def cross(value):
    """Encode, cut into a stream of bytes, parse, decode."""
    body, buffers = codec.encode(value, "a test")
    stream = b"".join(pack(Frame(Kind.RESULT, 1, 0.0, "", body, buffers)))
    (frame,) = FrameParser().feed(stream)
    return codec.decode(frame.body, frame.buffers)


ARRAYS = {
    "float": np.linspace(0, 1, 5000),
    "fortran": np.asfortranarray(np.arange(12_000).reshape(30, 400)),
    "strided": np.arange(40_000).reshape(200, 200)[::3, ::-2],
    "zero size": np.zeros((3, 0, 4), np.int8),
    "zero dimensions": np.array(2.5),
    "broadcast": np.broadcast_to(np.arange(3000.0), (7, 3000)),
    "dates": np.arange(4000).astype("datetime64[ms]"),
    "unicode": np.array(["a", "ü" * 3000]),
    "structured": np.zeros(3000, [("a", "i4"), ("b", "f8", (2,))]),
    "objects": np.array([1, None, "x", {"y": 2}], object),
    "big endian": np.arange(3000, dtype=">i8"),
    "empty bytes": np.array([b"", b""]),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("readonly", [False, True])
def test_arrays_arrive_equal_and_writable(name, readonly):
    array: Any = ARRAYS[name]
    array = array.view()
    array.flags.writeable = array.flags.writeable and not readonly
    came = cross({"deep": [array]})["deep"][0]
    assert came.dtype == array.dtype
    assert came.shape == array.shape
    assert came.flags.writeable
    np.testing.assert_array_equal(came, array)
    if array.flags.f_contiguous and array.ndim > 1 and array.size:
        assert came.flags.f_contiguous


@settings(max_examples=examples(80))
@given(hnp.arrays(dtype=hnp.scalar_dtypes(), shape=hnp.array_shapes(max_dims=4, max_side=40)))
def test_any_dtype_and_shape(array):
    came = cross(array)
    assert came.tobytes() == array.tobytes()
    assert (came.dtype, came.shape) == (array.dtype, array.shape)


def test_tensors():
    weight = torch.nn.Linear(64, 64).weight
    sent: dict[str, Any] = {
        "parameter": weight,
        "tied": [weight, weight.detach().view(-1)],
        "view": torch.arange(100_000.0)[10:20],
        "transposed": torch.arange(10_000).reshape(100, 100).T,
        "bfloat16": torch.full((5000,), 1.5, dtype=torch.bfloat16),
        "bool": torch.ones(3, dtype=torch.bool),
        "complex": torch.ones(3, dtype=torch.complex64),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "leaf": torch.ones(3000, requires_grad=True),
    }
    came = cross(sent)
    for name, tensor in sent.items():
        if name != "tied":
            assert torch.equal(came[name], tensor), name
            assert came[name].dtype == tensor.dtype
            assert came[name].requires_grad == tensor.requires_grad
    assert isinstance(came["parameter"], torch.nn.Parameter)
    assert came["tied"][0] is came["parameter"]
    with torch.no_grad():
        came["tied"][0][0, 0] = 99
    assert came["tied"][1][0] == 99
    assert came["view"].untyped_storage().nbytes() == 40
    assert cross(torch.float16) is torch.float16


def test_jax_arrays():
    # given arrays of JAX, with dtypes of its own, and as large as travels outside of the pickle stream
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    sent = {
        "floats": jnp.arange(10_000.0),
        "bfloat16": jnp.full((100, 100), 1.5, jnp.bfloat16),
        "scalar": jnp.sin(2.0),
        "bools": jnp.array([True, False]),
        "empty": jnp.zeros((0, 3)),
    }
    body, buffers = codec.encode(sent, "arrays")
    # when they arrive
    came = codec.decode(body, [bytearray(buffer) for buffer in buffers])
    # then they are the same, and JAX's
    for name, array in sent.items():
        assert type(came[name]) is type(array)
        assert (came[name].dtype, came[name].shape) == (array.dtype, array.shape)
        assert came[name].weak_type == array.weak_type
        assert (came[name] == array).all()
    assert len(buffers) == 2


def test_state_dicts_and_modules():
    model = torch.nn.Sequential(torch.nn.Linear(50, 50), torch.nn.BatchNorm1d(50))
    came = cross(model.state_dict())
    assert list(came) == list(model.state_dict())
    assert all(torch.equal(came[name], value) for name, value in model.state_dict().items())
    assert torch.equal(cross(model)(torch.ones(2, 50)).mean(), model(torch.ones(2, 50)).mean())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_tensors_that_are_no_plain_block_of_memory():
    rows = [torch.ones(3), torch.arange(5.0)]
    nested = cross(torch.nested.nested_tensor(rows))
    assert nested.is_nested
    assert all(torch.equal(came, row) for came, row in zip(nested.unbind(), rows, strict=True))
    for name, tensor in {
        "sparse": torch.eye(3).to_sparse(),
        "conjugate": torch.ones(3, dtype=torch.complex64).mul(1j).conj(),
        "negative": torch.ones(3, dtype=torch.complex64).mul(1j).conj().imag,
    }.items():
        came = cross(tensor)
        assert came.layout is tensor.layout
        assert torch.equal(came.to_dense(), tensor.to_dense()), name


def test_a_tensor_in_a_graph_says_what_to_do():
    with pytest.raises(SerializationError, match=r"\['x'\].*detach"):
        codec.encode_call((), {"x": {"x": torch.ones(3, requires_grad=True) * 2}}, "learn")


@given(
    st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner) | st.tuples(inner))
)
@settings(max_examples=examples(50))
def test_plain_values(value):
    assert cross(value) == value


def test_where_libraries_are_barred_from_import_values_travel_all_the_same(monkeypatch):
    for name in ("numpy", "torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not {"numpy", "torch"} & {made.__module__ for made in codec.reducers()}
    assert codec.decode(*codec.encode([1, "two"], "a value")) == [1, "two"]


def test_a_library_that_a_thread_is_importing_just_now_is_known_once_it_is_there(monkeypatch):
    half = types.ModuleType("multiprocessing.connection")
    half.__spec__ = importlib.machinery.ModuleSpec("multiprocessing.connection", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]  # as importlib has it while the module's code runs
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(codec, "_table", None)
        meanwhile.setitem(sys.modules, "multiprocessing.connection", half)
        assert cross([1, "two"]) == [1, "two"]
    reader, writer = multiprocessing.Pipe()
    with reader, writer, pytest.raises(SerializationError, match="Connection"):
        codec.encode(reader, "a value")


def test_large_bytes_are_not_copied_into_the_pickle_stream():
    data = b"x" * 10_000_000
    body, _ = codec.encode([data, 1], "a test")
    assert isinstance(body, tuple)
    assert any(piece is data for piece in body)


def test_cycles_and_sharing():
    ring: list[Any] = [1]
    ring.append(ring)
    came = cross(ring)
    assert came[1] is came
    shared = np.zeros(5000)
    first, second = cross([shared, shared])
    assert first is second


def test_code_that_cannot_be_imported_goes_by_value():
    code = """
import sys, pickle
from kourou.courier.wire import codec
class Thing:
    value = 5
def make():
    return Thing()
body, buffers = codec.encode([Thing(), make, Thing], "a test")
sys.stdout.buffer.write(b"".join(body) if isinstance(body, tuple) else body)
"""
    stream = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    thing, make, kind = codec.decode(stream)
    assert thing.value == make().value == kind.value == 5


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (KeyError("k"), ("k",)),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), ("utf-8", b"x", 0, 1, "bad")),
        (ImportError("no", name="x"), ("no",)),
        (StopIteration(3), (3,)),
        (subprocess.CalledProcessError(2, ["x"]), (2, ["x"])),
        (ValueError(lambda: None), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exceptions_of_all_kinds(error, kept):
    failure = failures.describe(error, node="n/0", method="m")
    came = failures.rebuild(failures.Failure(*cross(tuple(failure))))
    assert isinstance(came, RemoteError)
    assert isinstance(came, type(error))
    assert kept is None or came.args == kept
    assert type(pickle.loads(pickle.dumps(came))) is type(came)
    assert came.node == "n/0"


def test_an_exception_that_cannot_be_imported_is_still_shown(tmp_path, monkeypatch):
    (tmp_path / "gone.py").write_text("class Gone(Exception): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    gone = importlib.import_module("gone")
    failure = failures.describe(gone.Gone("why"), node="n", method="m")
    monkeypatch.delitem(sys.modules, "gone")
    (tmp_path / "gone.py").unlink()
    importlib.invalidate_caches()
    came = failures.rebuild(failure)
    assert type(came) is RemoteError
    assert str(came) == "gone.Gone: why"


class Ugly(Exception):
    def __str__(self):
        raise ValueError("no")


def test_an_exception_that_cannot_be_shown_is_still_an_exception():
    came = failures.rebuild(failures.describe(Ugly(), node="n", method="m"))
    assert isinstance(came, Ugly)


class Unwilling:
    def __reduce__(self):
        raise Ugly


def test_what_cannot_be_sent_is_named_though_its_error_cannot_be_shown():
    with pytest.raises(SerializationError, match=r"step args\[0\].*: Ugly, whose __str__ raises"):
        codec.encode_call((Unwilling(),), {}, "step")
    with pytest.raises(SerializationError, match=r"step result.*: Ugly, whose __str__ raises"):
        codec.encode(Unwilling(), "step")


@pytest.mark.parametrize("lane", ["inproc", "local", "grpc"])
def test_arrays_and_tensors_over_every_lane(lane):
    kept: list[Any] = []
    with Server(token=new_token()) as server:
        server.bind("echo", lambda value: value)
        server.bind("keep", kept.append)
        client = Client(server.address, token=server.token, lane=lane)
        array = np.arange(300_000).reshape(3, -1)
        tensor = torch.arange(200_000, dtype=torch.bfloat16)
        for _ in range(3):
            came, same = client.echo([array, tensor])
            np.testing.assert_array_equal(came, array)
            assert torch.equal(same, tensor)
            came += 1
            same += 1
        client.keep(array)
        kept[0][:] = 0
        assert array.sum() > 0
        assert client.echo(datetime.timedelta(1)) == datetime.timedelta(1)
        courier.close(client)
    assert kept[0].sum() == 0  # still there, though server and client are gone


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lane", ["inproc", "local", "grpc"])
def test_more_than_two_gib(lane):
    with Server(token=new_token()) as server:
        server.bind("size", lambda value: (value.nbytes, int(value[-1])))
        client = Client(server.address, token=server.token, lane=lane)
        value = np.ones((2 << 30) + 5, np.uint8)
        assert client.size(value) == (value.nbytes, 1)
        courier.close(client)


class Registered:
    """What somebody teaches pickle to write, after values were sent already."""


def test_a_reducer_that_is_registered_late_counts(monkeypatch):
    # Given that values were sent before
    assert cross([1]) == [1]
    before = codec._dispatch_table()
    assert codec._dispatch_table() is before
    # When a reducer is registered, and later replaced by another
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda _: (int, ("7",)))
    first = cross([Registered()])
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda _: (int, ("8",)))
    # Then each is used from there on
    assert (first, cross([Registered()])) == ([7], [8])


def test_the_end_of_a_pipe_is_refused_rather_than_sent_as_a_number():
    first, second = multiprocessing.Pipe()
    with first, second, pytest.raises(SerializationError, match=r"args\[0\]\['pipe'\].*nodes call each other"):
        codec.encode_call(({"pipe": first},), {}, "method")


def test_attributes_of_tensors_arrive():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3)
    tensor.name_of_it = "weights"
    body, buffers = codec.encode({"t": tensor}, "a test")
    assert codec.decode(body, [bytearray(b) for b in buffers])["t"].name_of_it == "weights"


@pytest.mark.parametrize("value", [10**5000, "x" * 10_000, 1.5], ids=["huge", "long", "small"])
def test_one_plain_argument_of_any_size_arrives(value: object) -> None:
    body, buffers = codec.encode_call((value,), {}, "a test")
    assert codec.decode_call(b"".join(body) if isinstance(body, tuple) else body, buffers) == ((value,), {})
