"""Tensors in shared memory are shared by the nodes of a host, and refused where they cannot be."""

from __future__ import annotations

import kourou as lp
from optional import is_there, optional, pytest

torch = optional("torch")
pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(not is_there("torch"), reason="torch is not installed"),
]


def learn(model, normal):
    with torch.no_grad():
        model.weight.fill_(7.0)
        normal.weight.fill_(7.0)


def act(model, normal):
    while model.weight[0, 0] != 7 and not lp.wait_for_stop(0.01):
        pass
    assert model.weight.is_shared()
    assert normal.weight[0, 0] != 7
    print("the actor sees", model.weight.detach().sum())
    if lp.get_context().attempt == 1:
        raise OSError("and once more after a restart")


def test_nodes_see_what_others_write_after_a_restart_too(capfd):
    # Given a model in shared memory, and another one, that the launcher itself does not keep
    model, normal = torch.nn.Linear(2, 2).share_memory(), torch.nn.Linear(2, 2)
    program = lp.Program("shared")
    program.add_node(lp.PyNode(learn, model, normal), label="learner")
    with program.group("actor", on_failure=lp.Restart(max_times=1, backoff_s=0)):
        program.add_node(lp.PyNode(act, model, normal))
    run = lp.launch(program, "local_mp")
    del program
    # When a node writes to both
    run.wait()
    # Then others see it in the one alone, and so does the launcher
    assert capfd.readouterr().out.count("the actor sees tensor(28.)") == 2
    assert model.weight[0, 0] == 7
    assert normal.weight[0, 0] != 7


def test_several_hosts_share_no_memory():
    program = lp.Program("shared")
    program.add_node(lp.PyNode(learn, {"model": torch.nn.Linear(2, 2).share_memory()}, None), label="learner")
    with pytest.raises(lp.errors.PlanError, match=r"learner/0 args\[0\]\['model'\].*shared memory.*clone"):
        lp.compile_program(program, "ssh", hosts=["one", "two"])


def test_a_weight_that_is_computed_from_others_travels_as_it_is():
    # Given a module with an attribute that is part of a graph
    module = torch.nn.Linear(2, 2)
    module.scaled = module.weight * 2
    program = lp.Program("graph")
    program.add_node(lp.PyNode(print, module), label="node")
    # Then a node may have it
    assert lp.compile_program(program, "local_mp").blobs
