"""Experiments and run descriptions with Sample Factory's signatures, commands, names and folders."""

from __future__ import annotations

import collections
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, get_args

from kourou.experiments.describe.naming import folder_name, run_name
from kourou.experiments.describe.parameters import ParamGenerator, ParamGrid, ParamList, Params, check_names
from kourou.experiments.describe.runs import RunSpec, check_runs, run_seed, setting_id
from kourou.experiments.describe.styles import ArgumentForm, ValueStyle, arguments, as_text
from kourou.experiments.failures import DescriptionError, check_word
from kourou.runtime.graph.program import Program

__all__ = ["Experiment", "ParamGenerator", "ParamGrid", "ParamList", "RunDescription", "Runnable"]

Runnable: TypeAlias = "str | Sequence[str] | Callable[..., Any] | Program"
"""A command line as text or as a list of arguments, a function, or a program."""


class Experiment:
    """Something to run, once for each combination of parameters.

    Args:
        name: names the runs.
        cmd: a command line, to which parameters are added as ``--name=value``; or a list of its arguments; or a
            function, called with the parameters as keywords; or a program.
        param_generator: combinations of parameters: dictionaries, or a ParamGrid or ParamList, in its own order.
            Without any, there is one run.
        env_vars: environment variables for each run.
        makes_program: whether ``cmd`` is a function that returns the program to run.

    Raises:
        DescriptionError: what cannot be run, or parameters for something that takes none.
    """

    def __init__(
        self,
        name: str,
        cmd: Runnable,
        param_generator: Iterable[Mapping[str, Any]] | ParamGenerator = (),
        env_vars: Mapping[str, Any] | None = None,
        *,
        makes_program: bool = False,
    ) -> None:
        _check_relative("an experiment's name", name)
        self.base_name = name
        self.cmd = cmd
        self.makes_program = makes_program
        if isinstance(param_generator, ParamGenerator):
            param_generator = param_generator.generate_params(randomize=False)
        self.params: list[Params] = []
        for params in param_generator:
            check_names(params, f"experiment {name!r}")
            self.params.append(dict(params))
        self.env_vars = env_vars
        if makes_program and not callable(cmd):
            raise DescriptionError(f"experiment {name!r}: makes_program needs a function, got {cmd!r}")
        if isinstance(cmd, Program) and self.params:
            raise DescriptionError(
                f"experiment {name!r}: a program that is made already takes no parameters; "
                "give the function that makes it, with makes_program=True"
            )
        if self.is_command:
            self._words()

    @property
    def combinations(self) -> list[Params]:
        """The combinations of parameters; a single empty one where there are none."""
        return self.params or [{}]

    def generate_experiments(
        self,
        experiment_arg_name: str | None,
        customize_experiment_name: bool,  # noqa: FBT001 - Sample Factory's signature
        param_prefix: str,
    ) -> Iterator[tuple[str, str]]:
        """Yield the command line and the name of each run, as text, to the letter of Sample Factory.

        Values are put in as they are: one with a space is several words to a shell. ``RunDescription.generate_runs``
        yields arguments instead.

        Raises:
            DescriptionError: this is no command.
        """
        if not isinstance(self.cmd, str):
            raise DescriptionError(f"experiment {self.base_name!r} is no command line in text: use generate_runs")
        for index, params in enumerate(self.combinations):
            name = run_name(index, self.base_name, params, customize=customize_experiment_name)
            words = [f"{param_prefix}{param}={value}" for param, value in params.items()]
            named = [f"{experiment_arg_name}={name}"] if experiment_arg_name else []
            yield " ".join([self.cmd, *words, *named]), name

    def identity(self, params: Mapping[str, Any], *, by_name: bool = False) -> str:
        """Identifies the setting with these parameters, as ``RunSpec.setting``; ``by_name``: of this experiment's."""
        return setting_id([self.base_name, self.cmd] if by_name else self.cmd, params, self.env_vars or {})

    def environment(self) -> dict[str, str]:
        """The environment variables as text.

        Raises:
            DescriptionError: one is None, which no environment can hold.
        """
        unset = [name for name, value in (self.env_vars or {}).items() if value is None]
        if unset:
            raise DescriptionError(f"experiment {self.base_name!r}: environment variable {unset[0]} has no value")
        return {str(name): str(value) for name, value in (self.env_vars or {}).items()}

    @property
    def is_command(self) -> bool:
        """Whether it is a command line."""
        return not callable(self.cmd) and not isinstance(self.cmd, Program)

    def target(self, arguments: Iterable[str]) -> dict[str, Any]:
        """The field of a RunSpec that says what is run; ``arguments`` are for commands."""
        if isinstance(self.cmd, Program) or self.makes_program:
            return {"program": self.cmd}
        if callable(self.cmd):
            return {"function": self.cmd}
        return {"command": (*self._words(), *arguments)}

    def _words(self) -> tuple[str, ...]:
        if not isinstance(self.cmd, str):
            if not isinstance(self.cmd, Sequence) or not all(isinstance(word, str) for word in self.cmd):
                raise DescriptionError(
                    f"experiment {self.base_name!r} is a command line, a function or a program, got {self.cmd!r}"
                )
            return tuple(self.cmd)
        try:
            words = tuple(shlex.split(self.cmd))
        except ValueError as error:
            raise DescriptionError(f"experiment {self.base_name!r}: {error} in command {self.cmd!r}") from error
        if not words:
            raise DescriptionError(f"experiment {self.base_name!r} has an empty command")
        if _SETS_VARIABLE.match(words[0]):
            raise DescriptionError(
                f"experiment {self.base_name!r}: no shell reads its command, so {words[0]!r} would be the program: "
                "variables are set by the experiment's env"
            )
        if (found := _SHELLS_WORD.search(_QUOTED.sub("_", self.cmd))) is not None:
            raise DescriptionError(
                f"experiment {self.base_name!r}: no shell reads its command, so {found[0]!r} would be an argument of "
                f'{words[0]!r}: quote it if it is one, else write bash -c \'train "$@" | tee log\' bash, where "$@" '
                "are the parameters"
            )
        return words


_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)  # as shlex reads quotes
_SETS_VARIABLE = re.compile(r"[A-Za-z_]\w*=")
_SHELLS_WORD = re.compile(r"(?<!\S)(?:\|\|?|&&?|;|<|[\d&]?>\S*)(?!\S)")


class RunDescription:
    """Experiments that are launched together.

    Args:
        run_name: names the whole, and the folder of it all.
        experiments: what to run.
        experiment_arg_name: the argument by which a command learns its run's name; None: it finds KOUROU_RUN_NAME.
        experiment_dir_arg_name: the argument by which it learns the folder of its experiment; None: by none.
        customize_experiment_name: whether names tell the parameters.
        param_prefix: what stands before a parameter's name: ``--``, or nothing for Hydra.
        form: how ``generate_runs`` gives parameters to commands; None: as ``param_prefix`` says.
        value_style: how it writes truth values and None; None: as Hydra for ``key=value``, else as Python.

    Raises:
        DescriptionError: there is no such form or style.
    """

    def __init__(
        self,
        run_name: str,
        experiments: Iterable[Experiment],
        experiment_arg_name: str | None = "--experiment",
        experiment_dir_arg_name: str | None = "--train_dir",
        customize_experiment_name: bool = True,  # noqa: FBT001, FBT002 - Sample Factory's signature
        param_prefix: str = "--",
        *,
        form: ArgumentForm | None = None,
        value_style: ValueStyle | None = None,
    ) -> None:
        _check_relative("a run's name", run_name)
        if form is not None:
            check_word("arguments are", form, get_args(ArgumentForm), DescriptionError)
            param_prefix = "--" if form.startswith("--") else ""
        style = value_style or ("hydra" if form == "key=value" else "python")
        check_word("value_style is", style, get_args(ValueStyle), DescriptionError)
        self.form = form
        self.value_style: ValueStyle = style
        self.run_name = run_name
        self.experiments = list(experiments)
        self.experiment_suffix = ""
        self.experiment_arg_name = experiment_arg_name
        self.experiment_dir_arg_name = experiment_dir_arg_name
        self.customize_experiment_name = customize_experiment_name
        self.param_prefix = param_prefix

    def generate_experiments(
        self,
        train_dir: str,
        makedirs: bool = True,  # noqa: FBT001, FBT002 - Sample Factory's signature
    ) -> Iterator[tuple[str, str, str, Mapping[str, Any] | None]]:
        """Yield each run's command, name, folder below ``train_dir`` and environment, to the letter of Sample Factory.

        Args:
            train_dir: the folder for everything.
            makedirs: whether to make each experiment's folder.

        Raises:
            DescriptionError: two runs would have one folder; nothing was made.
        """
        listed = []
        seen: set[tuple[str, str]] = set()
        for experiment in self.experiments:
            root_dir = self._root_dir(experiment)
            runs = experiment.generate_experiments(
                self.experiment_arg_name, self.customize_experiment_name, self.param_prefix
            )
            for command, name in runs:
                if (root_dir, name) in seen:
                    raise DescriptionError(f"two runs are called {name!r} in {root_dir}: give experiments other names")
                seen.add((root_dir, name))
                listed.append((command, name, root_dir, experiment.env_vars))
        return self._with_folders(listed, train_dir, makedirs=makedirs)

    def _with_folders(
        self, listed: list[tuple[str, str, str, Mapping[str, Any] | None]], train_dir: str, *, makedirs: bool
    ) -> Iterator[tuple[str, str, str, Mapping[str, Any] | None]]:
        for command, name, root_dir, env_vars in listed:
            experiment_dir = os.path.join(train_dir, root_dir)  # noqa: PTH118 - a Path would drop the leading ./
            if makedirs:
                os.makedirs(experiment_dir, exist_ok=True)  # noqa: PTH103 - a Path would drop the leading ./
            place = f" {self.experiment_dir_arg_name}={experiment_dir}" if self.experiment_dir_arg_name else ""
            yield f"{command}{place}", name, root_dir, env_vars

    def generate_runs(
        self, train_dir: str, *, repeats: int | None = None, root_seed: int = 0, seed_param: str | None = "seed"
    ) -> tuple[RunSpec, ...]:
        """All runs as data: every setting once, then every setting again, as often as asked.

        Args:
            train_dir: the folder for everything. Nothing is made.
            repeats: how often each setting is run, each time with another seed. Asking for more later leaves the
                first ones as they were. None: once, without a seed.
            root_seed: from which seeds are derived.
            seed_param: the parameter that gets the seed; None: nobody does.

        Raises:
            DescriptionError: two runs are the same, or the parameters have the seed already.
        """
        if repeats is not None and repeats < 1:
            raise DescriptionError(f"repeats are at least 1, got {repeats}")
        named: dict[str, set[str]] = collections.defaultdict(set)
        for experiment in self.experiments:
            for params in experiment.combinations:
                named[experiment.identity(params)].add(experiment.base_name)
        # Experiments that do the same under two names are two, and each is identified by its name, in whatever order.
        twins = frozenset(setting for setting, names in named.items() if len(names) > 1)
        return check_runs(
            self._run(experiment, index, train_dir, repeat, root_seed, seed_param, twins)
            for repeat in ([None] if repeats is None else range(repeats))
            for experiment in self.experiments
            for index in range(len(experiment.combinations))
        )

    def _run(
        self,
        experiment: Experiment,
        index: int,
        train_dir: str,
        repeat: int | None,
        root: int,
        seed_param: str | None,
        twins: frozenset[str],
    ) -> RunSpec:
        params = experiment.combinations[index]
        setting = experiment.identity(params)
        if setting in twins:
            setting = experiment.identity(params, by_name=True)
        if self.experiment_suffix:  # with another one the same is run again, in another folder
            setting = setting_id([setting, self.experiment_suffix], {}, {})
        name = run_name(index, experiment.base_name, params, customize=self.customize_experiment_name)
        seed = None
        if repeat is not None:
            seed, name = run_seed(root, setting, repeat), f"{name}_rep{repeat}"
            if seed_param in params:
                raise DescriptionError(f"experiment {experiment.base_name!r} sets {seed_param!r}, as the repeats do")
        name = folder_name(name)
        experiment_dir = os.path.join(train_dir, self._root_dir(experiment))  # noqa: PTH118 - keeps the leading ./
        seeded = {**params, seed_param: seed} if seed is not None and seed_param is not None else params
        env, swept = experiment.environment(), self._arguments(seeded, name, experiment_dir)
        if self.form == "environment" and experiment.is_command:
            env |= {param: text for param, value in seeded.items() if (text := as_text(value, self.value_style))}
        return RunSpec(
            name=name,
            folder=os.path.join(experiment_dir, name),  # noqa: PTH118 - keeps the leading ./
            env=env,
            params=dict(params),
            seed=seed,
            seed_param=seed_param,
            repeat=repeat or 0,
            setting=setting,
            **experiment.target(swept),
        )

    def _arguments(self, params: Mapping[str, Any], name: str, experiment_dir: str) -> list[str]:
        """What is added to a command."""
        swept: list[str] = []
        if self.form != "environment":
            apart = self.form == "--key value"
            swept = arguments(params, prefix=self.param_prefix, style=self.value_style, apart=apart)
        places = ((self.experiment_arg_name, name), (self.experiment_dir_arg_name, experiment_dir))
        return [*swept, *(f"{argument}={value}" for argument, value in places if argument)]

    def _root_dir(self, experiment: Experiment) -> str:
        return os.path.join(self.run_name, f"{experiment.base_name}_{self.experiment_suffix}")  # noqa: PTH118 - a text


def _check_relative(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name or name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise DescriptionError(f"{what} is that of a folder below the train_dir, got {name!r}")
