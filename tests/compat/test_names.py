"""Every public name of the projects is there, or raises a sentence that says what to use instead."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
import typing
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

import kourou
import kourou.compat
from kourou import errors

LAUNCHPAD = """
lazy_loader flags LaunchType is_local_launch is_local_launch_or_test LAUNCH_TYPE Program launch CourierHandle
CourierNode CourierClient MultiThreadingColocation PyClassNode PyNode Address AbstractAddressBuilder
get_port_from_address SimpleLocalAddressBuilder register_stop_handler stop_event unregister_stop_handler wait_for_stop
make_program_stopper stop ReverbNode DockerConfig batched_handler context MultiProcessingColocation CacherNode
PythonProcess Deferred maybe_dereference
"""
REVERB = """
selectors rate_limiters structured Client Writer DeadlineExceededError ReverbError checkpointers ReplaySample
SampleInfo Server Table TFClient TimestepDataset TrajectoryDataset TrajectoryColumn TrajectoryWriter PatternDataset
ReplayDataset
"""
TORCHRUNX = "DEFAULT_ENV_VARS_FOR_COPY AgentFailedError LaunchResult Launcher WorkerFailedError"
PUBLIC = {"launchpad": LAUNCHPAD, "courier": "Client Server list_methods", "reverb": REVERB, "torchrunx": TORCHRUNX}

DEEP = """
launchpad.address.Address launchpad.context.get_context launchpad.flags.FLAGS launchpad.launch.launch.launch
launchpad.launch.worker_manager.register_stop_handler launchpad.launch.worker_manager.wait_for_stop
launchpad.launch.test_multi_threading.address_builder.bind_addresses
launchpad.launch.serialization.check_nodes_are_serializable launchpad.nodes.base.Node
launchpad.nodes.courier.courier_utils.batched_handler launchpad.nodes.courier.node.CourierNode
launchpad.nodes.dereference.Deferred launchpad.nodes.multi_processing_colocation.node.MultiProcessingColocation
launchpad.nodes.multi_threading_colocation.node.MultiThreadingColocation launchpad.nodes.python.xm_docker.DockerConfig
launchpad.nodes.python.local_multi_processing.PythonProcess launchpad.nodes.python.node.PyClassNode
launchpad.nodes.reverb.node.ReverbNode launchpad.program.Program
launchpad.program_stopper.program_stopper.make_program_stopper launchpad.stop_program.stop.stop
courier.python.client.Client courier.python.client.StatusNotOk pybind11_abseil.status.StatusNotOk
courier.python.py_server.Server reverb.client.Client reverb.errors.DeadlineExceededError reverb.item_selectors.Fifo
reverb.rate_limiters.SampleToInsertRatio reverb.platform.checkpointers_lib.CheckpointerBase
reverb.platform.default.checkpointers.default_checkpointer reverb.replay_sample.SampleInfo
reverb.reverb_types.TableInfo reverb.server.Table reverb.structured_writer.Condition reverb.tf_client.TFClient
reverb.timestep_dataset.TimestepDataset reverb.trajectory_dataset.TrajectoryDataset
reverb.trajectory_writer.TrajectoryWriter torchrunx.integrations.cli.launcher_from_args
torchrunx.integrations.parsing.launcher_from_args
torchrunx.utils.log_handling.get_handler_filter torchrunx.utils.log_handling.file_handlers
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    path = list(sys.path)
    kourou.compat.install()
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] in kourou.compat.PROJECTS]:
        del sys.modules[name]


@pytest.mark.parametrize("project", PUBLIC)
def test_public_names_are_there(project):
    module = importlib.import_module(project)
    assert [name for name in PUBLIC[project].split() if not hasattr(module, name)] == []
    assert set(PUBLIC[project].split()) <= set(dir(module))


@pytest.mark.parametrize("name", DEEP.split())
def test_names_are_where_programs_look_for_them(name):
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute) is not None


@pytest.mark.parametrize("project", kourou.compat.PROJECTS)
def test_all_names_that_modules_show_are_there(project):
    importlib.import_module(project)
    shown = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == project}
    missing = [
        f"{name}.{one}"
        for name, module in shown.items()
        for one in module.__all__
        if one != "TorchrunxClusterEnvironment" and not hasattr(module, one)  # it imports Lightning, for seconds
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("use", "remedy"),
    [
        (lambda lp: lp.Address("courier"), "pass its handle"),
        (lambda lp: lp.DockerConfig(".", requirements=None), "ssh"),
        (lambda lp: lp.launch(lp.Program("p"), "vertex_ai"), "ssh"),
        (lambda _: importlib.import_module("reverb").TFClient("localhost:1"), "reverb.Client has the same"),
        (lambda _: importlib.import_module("reverb").TrajectoryDataset.from_table_signature("a"), "ReplayDataset"),
    ],
    ids=["address", "container", "launch_type", "client", "data_set"],
)
def test_what_cannot_be_had_says_what_to_use_instead(use, remedy):
    with pytest.raises(errors.NotSupported, match=remedy):
        use(importlib.import_module("launchpad"))


def test_what_cannot_be_had_may_be_named_in_annotations():
    reverb: Any = importlib.import_module("reverb")
    assert typing.get_args(reverb.TFClient | None) == (reverb.TFClient, type(None))
    assert not isinstance(None, reverb.TFClient)
    with pytest.raises(AttributeError, match=r"reverb\.nothing is not among what kourou\.compat has"):
        _ = reverb.nothing


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("launchpad.launch", "programs launch_type"),
        ("launchpad.ReverbNode", "priority_tables_fn checkpoint_ctor checkpoint_time_delta_minutes"),
        ("launchpad.CacherNode", "target_handle refresh_interval_ms stale_after_ms"),
        ("launchpad.MultiThreadingColocation", "nodes return_on_first_completed"),
        ("launchpad.PythonProcess", "args env"),
        ("courier.Server", "name port thread_pool_size"),
        ("reverb.Server", "tables port checkpointer"),
        ("reverb.Client", "server_address"),
        ("reverb.Client.writer", "self max_sequence_length delta_encoded chunk_length max_in_flight_items"),
        ("reverb.Client.insert", "self data priorities"),
        ("reverb.TrajectoryWriter.flush", "self block_until_num_items timeout_ms"),
        ("reverb.structured_writer.create_config", "pattern table conditions priority"),
        ("torchrunx.utils.log_handling.get_handler_filter", "hostname local_rank log_level"),
    ],
)
def test_arguments_have_their_names_and_their_order(function, arguments):
    project, *path = function.split(".")
    found: Any = importlib.import_module(project)
    for name in path:
        found = getattr(found, name)
    assert list(inspect.signature(found).parameters)[: len(arguments.split())] == arguments.split()


def test_launch_types_are_those_of_the_project_and_compare_with_flags():
    lp = importlib.import_module("launchpad")
    assert lp.LaunchType("vertex_ai") is lp.LaunchType.VERTEX_AI == "vertex_ai"
    assert lp.is_local_launch(lp.LaunchType.LOCAL_MULTI_PROCESSING)
    assert not lp.is_local_launch_or_test(lp.LaunchType.VERTEX_AI)
    assert lp.LaunchType.LOCAL_MULTI_PROCESSING == kourou.LaunchType.LOCAL_MULTI_PROCESSING


def test_flags_can_be_read_before_the_program_is_launched():
    flags = pytest.importorskip("absl.flags")
    lp = importlib.import_module("launchpad")
    assert "lp_launch_type" in flags.FLAGS
    assert lp.LAUNCH_TYPE.name == "lp_launch_type"


def test_functions_that_name_the_modules_travel():
    namespace = {"lp": importlib.import_module("launchpad"), "courier": importlib.import_module("courier")}
    exec("def function(): return lp.Program('p'), courier.Client", namespace)
    program, client = pickle.loads(cloudpickle.dumps(namespace["function"]))()
    assert isinstance(program, kourou.Program)
    assert issubclass(client, kourou.CourierClient)


def test_projects_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="launchpad, courier, reverb, torchrunx, not 'ray'"):
        kourou.compat.install("ray")


def test_a_project_that_was_imported_itself_is_not_replaced_behind_its_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrunx", type(sys)("torchrunx"))
    with pytest.raises(ImportError, match=r"torchrunx itself was imported already"):
        kourou.compat.install("torchrunx")
