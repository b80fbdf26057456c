"""Actors and learners of a language model: a label for each, so that each gets its GPUs by an environment variable."""

import argparse
import os
import threading

import launchpad as lp
from absl import app, flags, logging
from launchpad.nodes.python import local_multi_processing

flags.DEFINE_integer("total_gpus", 4, "of which actors have one half")


class SharedMemory:
    def __init__(self, size_mb: int):
        self._size_mb, self._objects = size_mb, {}

    def put(self, name, value):
        self._objects[name] = value

    def get(self, name):
        return self._objects[name]


class Actor:
    def __init__(self, ipc_server: SharedMemory, model_args: dict, args: argparse.Namespace):
        self._ipc, self._model_args, self._args = ipc_server, model_args, args
        self._met = threading.Event()

    def init_process_group(self, master_addr, master_port, rank, world_size, group_name, backend):
        self._met.set()
        return rank, world_size, group_name, backend, os.environ["CUDA_VISIBLE_DEVICES"]

    def step(self, prompts: list[str]):
        assert self._met.is_set()
        self._ipc.put("answers", [prompt.upper() for prompt in prompts])
        return "answers"


class LearnerBase:
    def __init__(  # noqa: PLR0917 - as they are given there
        self, world_size, rank, local_rank, master_addr, master_port, is_master, args, actors, ipc_server
    ):
        self._rank, self._is_master, self._args = rank, is_master, args
        self._world_size, self._actors, self._ipc = world_size, actors, ipc_server

    def run(self):
        logging.info("learner %d of %d has GPU %s", self._rank, self._world_size, os.environ["CUDA_VISIBLE_DEVICES"])
        if not self._is_master:
            lp.wait_for_stop()
            return
        futures = [
            actor.futures.init_process_group("localhost", 1, i + 1, len(self._actors) + 1, "oat", backend="gloo")
            for i, actor in enumerate(self._actors)
        ]
        logging.info("met %s", [future.result() for future in futures])
        for actor in self._actors:
            logging.info("answers %s", self._ipc.get(actor.step(["hello"])))
        lp.stop()


class Learner(LearnerBase):
    pass


def get_program(args):
    program = lp.Program("online")
    half = args.total_gpus // 2
    actor_gpus, learner_gpus = list(range(half)), list(range(half, args.total_gpus))
    ipc_server = program.add_node(lp.CourierNode(SharedMemory, size_mb=10), label="ipc_server")
    actors, local_resources = [], {}
    for i in actor_gpus:
        label = f"actor_{i}"
        actors.append(program.add_node(lp.CourierNode(Actor, ipc_server, {"model": "m"}, args), label=label))
        local_resources[label] = local_multi_processing.PythonProcess(env={"CUDA_VISIBLE_DEVICES": str(i)})
    for rank, gpu in enumerate(learner_gpus):
        label = f"learner_{rank}"
        node = lp.PyClassNode(
            Learner,
            len(learner_gpus),
            rank,
            rank,
            "localhost",
            1,
            rank == 0,
            args,
            actors,
            ipc_server,
        )
        program.add_node(node, label=label)
        local_resources[label] = local_multi_processing.PythonProcess(env={"CUDA_VISIBLE_DEVICES": str(gpu)})
    return program, local_resources


def main(_):
    args = argparse.Namespace(total_gpus=flags.FLAGS.total_gpus)
    program, local_resources = get_program(args)
    lp.launch(
        program,
        launch_type=lp.LaunchType.LOCAL_MULTI_PROCESSING,
        local_resources=local_resources,
        terminal="current_terminal",
    ).wait()
    print("the program has ended")


if __name__ == "__main__":
    app.run(main)
