"""A distributed agent as those of reinforcement-learning libraries are: replay, counter, learner, cacher, actors."""

import itertools
import threading
import time

import launchpad as lp
import numpy as np
import reverb
from absl import app, flags, logging
from launchpad.nodes.dereference import Deferred

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_actors", 2, "how many")
flags.DEFINE_integer("actors_per_node", 1, "how many share a process")
flags.DEFINE_bool("colocate", False, "learner and replay share a process")

TABLE = "priority_table"


class ArraySpec:
    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype


class Counter:
    """Counts; those of other processes have a parent."""

    def __init__(self, parent=None, prefix=""):
        self._parent, self._prefix, self._counts, self._lock = parent, prefix, {}, threading.Lock()

    def increment(self, **counts):
        counts = {f"{self._prefix}{name}": n for name, n in counts.items()}
        if self._parent is not None:
            return self._parent.increment(**counts)
        with self._lock:
            for name, n in counts.items():
                self._counts[name] = self._counts.get(name, 0) + n
            return self._counts

    def get_counts(self):
        return self._parent.get_counts() if self._parent is not None else self._counts


class Runner:
    """Wraps an object: what is not its own is the wrapped one's."""

    def __init__(self, wrapped):
        self._wrapped = wrapped

    def increment(self, **counts):
        return self._wrapped.increment(**counts)

    def get_counts(self):
        return self._wrapped.get_counts()


class StepsLimiter:
    def __init__(self, counter: Counter, max_steps: int):
        self._counter, self._max_steps = counter, max_steps

    def run(self):
        while True:
            if self._counter.get_counts().get("actor_steps", 0) >= self._max_steps:
                logging.info("limit reached")
                return lp.stop()
            time.sleep(0.05)


class Learner:
    def __init__(self, client: reverb.Client, counter: Counter):
        self._client, self._counter, self._version = client, counter, 0

    def run(self):
        while True:
            for sample in self._client.sample(TABLE, 2):
                assert len(sample) == 3, "an item is three steps"
                assert sample[0].data[1].shape == (4,)
                self._client.mutate_priorities(TABLE, updates={sample[0].info.key: 2.0})
            self._version += 1
            self._counter.increment(steps=1)

    def get_variables(self, names):
        return [np.full(3, self._version) for _ in names]


class EnvironmentLoop:
    def __init__(self, client, source, counter, epsilon, actor_id):
        self._client, self._source, self._counter = client, source, counter
        self._epsilon, self._id = epsilon, actor_id

    def run(self):
        if lp.context.get_context().launch_type is lp.LaunchType.LOCAL_MULTI_PROCESSING:
            logging.info("actor %d of %d, epsilon %.2f", self._id, FLAGS.num_actors, self._epsilon)
        while not lp.wait_for_stop(0):
            (variables,) = self._source.get_variables(["policy"])
            assert variables.shape == (3,)
            with self._client.writer(max_sequence_length=3, chunk_length=3) as writer:
                for step in range(3):
                    writer.append({"observation": np.ones(4, np.float32), "action": np.int64(step)})
                writer.create_item(TABLE, num_timesteps=3, priority=1.0)
            self._counter.increment(steps=3)


def make_tables():
    signature = {"observation": ArraySpec((4,), np.float32), "action": ArraySpec((), np.int64)}
    return [
        reverb.Table(
            name=TABLE,
            sampler=reverb.selectors.Prioritized(priority_exponent=0.6),
            remover=reverb.selectors.Fifo(),
            max_size=1000,
            rate_limiter=reverb.rate_limiters.MinSize(min_size_to_sample=1),
            signature=signature,
        )
    ]


def make_counter():
    return Runner(Counter())


def make_learner(replay: reverb.Client, counter: Counter):
    return Learner(reverb.Client(replay.server_address), Counter(counter, "learner_"))


def make_actor(replay, variable_source, counter, epsilon, actor_id):
    return EnvironmentLoop(replay, variable_source, Counter(counter, "actor_"), epsilon, actor_id)


def evaluate(variable_source, counter, stopper):
    assert callable(stopper)
    while not counter.get_counts().get("learner_steps"):
        time.sleep(0.02)
    logging.info("evaluated %s", variable_source.get_variables(["policy"])[0].shape)


def make_program():
    program = lp.Program(name="agent")
    replay_node = lp.ReverbNode(make_tables, checkpoint_time_delta_minutes=10)
    replay = replay_node.create_handle()
    with program.group("counter"):
        counter = program.add_node(lp.CourierNode(make_counter))
        program.add_node(lp.CourierNode(StepsLimiter, counter, 60))
    learner_node = lp.CourierNode(make_learner, replay, counter, courier_kwargs={"thread_pool_size": 4})
    learner = learner_node.create_handle()
    if FLAGS.colocate:
        program.add_node(lp.MultiThreadingColocation([learner_node, replay_node]), label="learner")
    else:
        program.add_node(replay_node, label="replay")
        program.add_node(learner_node, label="learner")
    with program.group("cacher"):
        sources = [program.add_node(lp.CacherNode(learner, refresh_interval_ms=20, stale_after_ms=40))]
    with program.group("actor"):
        epsilons = np.logspace(1, 8, FLAGS.num_actors, base=0.4)
        nodes = [
            lp.CourierNode(make_actor, replay, source, counter, Deferred(float, epsilon), actor_id)
            for actor_id, (epsilon, source) in enumerate(zip(epsilons, itertools.cycle(sources)))
        ]
        for i in range(0, len(nodes), FLAGS.actors_per_node):
            few = nodes[i : i + FLAGS.actors_per_node]
            program.add_node(few[0] if len(few) == 1 else lp.MultiThreadingColocation(few))
    stopper = lp.make_program_stopper(FLAGS.lp_launch_type)
    program.add_node(lp.PyNode(evaluate, learner, counter, stopper), label="evaluator")
    return program


def main(_):
    assert lp.LAUNCH_TYPE.value == FLAGS.lp_launch_type
    program = make_program()
    resources = None if FLAGS.lp_launch_type != "vertex_ai" else {"replay": lp.DockerConfig(".", None)}
    lp.launch(program, xm_resources=resources, terminal="current_terminal")


if __name__ == "__main__":
    app.run(main)
