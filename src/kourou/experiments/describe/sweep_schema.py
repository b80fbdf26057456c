"""The shape of a sweep file: what is checked when one is read, and the JSON Schema from which editors complete.

The texts below the fields are the schema's descriptions, which editors show.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

from kourou.experiments.describe.styles import ArgumentForm, ValueStyle
from kourou.experiments.describe.validation import Section


def _check_two(bounds: list[Any]) -> list[Any]:
    if len(bounds) != 2:  # noqa: PLR2004 - a lowest and a highest
        raise PydanticCustomError("bounds", "expected [lowest, highest], got {bounds}", {"bounds": repr(bounds)})
    return bounds


_TWO = Field(json_schema_extra={"minItems": 2, "maxItems": 2})
Bounds: TypeAlias = Annotated[list[int | float], AfterValidator(_check_two), _TWO]
WholeBounds: TypeAlias = Annotated[list[int], AfterValidator(_check_two), _TWO]
Reference: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": "^[^:]+:[^:]+$"})]
"""``module:name``."""


class DistributionSection(Section):
    """What values a parameter takes, and how often."""

    one_of = ("uniform", "log_uniform", "integers", "log_integers", "choice")

    uniform: Bounds | None = None
    """[lowest, highest] of real numbers."""
    log_uniform: Bounds | None = None
    """[lowest, highest] of real numbers whose logarithms are drawn evenly, as fits learning rates."""
    integers: WholeBounds | None = None
    """[lowest, highest] of whole numbers, both among them."""
    log_integers: WholeBounds | None = None
    """[lowest, highest] of whole numbers whose logarithms are drawn evenly, as fits sizes."""
    choice: list[Any] | None = None
    """The values themselves."""


class SearchSection(Section):
    """Combinations drawn from a space. Asking for more later keeps those that there are."""

    n: Annotated[int, Field(ge=1)]
    """How many combinations; all are different."""
    seed: int = 0
    """Another one gives other combinations."""
    space: Annotated[dict[str, list[Any] | DistributionSection], Field(min_length=1)]
    """Parameter, or several with commas between them that vary together, to its values or its distribution."""


class ParamsSection(Section):
    """Combinations of parameters."""

    one_of = ("grid", "list", "random", "sobol")
    needs_one = False

    grid: dict[str, list[Any]] | None = None
    """All combinations: parameter, or several with commas between them that vary together, to its values."""
    combinations: Annotated[list[dict[str, Any]] | None, Field(alias="list")] = None
    """Combinations that are listed one by one."""
    random: SearchSection | None = None
    """Combinations at random."""
    sobol: SearchSection | None = None
    """Combinations that cover the space evenly, best with a power of 2 of them."""
    where: str | list[str] | None = None
    """A condition such as ``batch >= 2 * envs``, or several; combinations that do not meet it are left out."""
    shuffle: int | None = None
    """The seed of a shuffle; without it the combinations keep their order."""


class ExperimentSection(Section):
    """Something to run, once for each combination of parameters."""

    one_of = ("command", "function", "program")

    name: str
    """Names the runs."""
    command: str | list[str] | None = None
    """A command line, to which parameters are added; as text, or as a list of its arguments."""
    function: Reference | None = None
    """module:name of a function that is called with the parameters."""
    program: Reference | None = None
    """module:name of an lp.Program, or of a function of the parameters that returns one."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Environment variables of each run."""
    params: ParamsSection = ParamsSection()
    """Combinations of parameters; without any there is one run."""


class SweepFile(Section):
    """A sweep: many runs of commands, functions or programs."""

    model_config = ConfigDict(title="Sweep of kourou")

    name: str
    """The run's name; its folder is train_dir/name."""
    experiments: Annotated[list[ExperimentSection], Field(min_length=1)]
    """What is run."""
    train_dir: str = "./train_dir"
    """The folder for everything."""
    repeats: Annotated[int, Field(ge=1)] | None = None
    """Runs of each setting, each with a seed of its own; without it one, without a seed."""
    seed: int = 0
    """From which the seeds of runs are derived."""
    seed_param: str | None = "seed"
    """The parameter that gets the seed; null, or an empty text: none does."""
    arguments: ArgumentForm = "--key=value"
    """How a command gets its parameters. key=value is Hydra's; environment: as variables of their names."""
    value_style: ValueStyle | None = None
    """Truth values. python: --k=True; lower: --k=true; flags: --k or --no-k; hydra: k=true, and texts in its quotes.

    None is --k=None for python, null for hydra, nothing for the others. By default hydra for key=value, else python.
    """
    experiment_arg_name: str | None = None
    """An argument by which a command is told its run's name, for Sample Factory --experiment; by default none is."""
    experiment_dir_arg_name: str | None = None
    """An argument by which it is told the folder of its experiment, for Sample Factory --train_dir."""
    customize_experiment_name: bool = True
    """Whether the names of runs tell their parameters."""
    experiment_suffix: str = ""
    """Stands behind the names of the experiments' folders."""
    on: dict[str, Any] | None = None
    """An engine, all hosts of whose allocation the runs share: {engine: slurm, nodes: 4, partition: gpu}."""
    base: str | None = None
    """Another file that this one adds to: sections are merged, all else is replaced."""
    schema_place: Annotated[str | None, Field(alias="$schema")] = None
    """Where this schema is, for editors of JSON files."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of sweep files."""
    schema = SweepFile.model_json_schema()
    # A file that adds to another one has what it changes.
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["base"]}]
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}
