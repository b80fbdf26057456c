"""The arguments of a function from words of a command line, typed by the function's signature; tyro reads them."""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import io
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias

from kourou import errors
from kourou.shown import shown

Arguments: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"
_TRUTH_VALUE = re.compile(r"--(?P<path>[\w.-]*\.)?(?P<name>[\w-]+)=(?P<value>true|false)", re.IGNORECASE)


def parse_arguments(function: Callable[..., Any], words: Sequence[str], prog: str) -> Arguments:
    """The positional and keyword arguments that words of a command line mean to a function.

    Parameters are options: ``--name value`` or ``--name=value``, ``--flag`` or ``--no-flag``, ``--config.lr 0.1`` for a
    field of a dataclass. The first words may be values without names, in the order of the parameters. A parameter
    without an annotation takes a Python literal, else text; ``**kwargs`` takes ``--name=value`` of any name.

    Raises:
        PlanError: a word that has no meaning for the function.
        SystemExit: ``--help`` (0), or a value that is missing or of another type (2); it has been printed.
    """
    if not words and _is_callable_without_arguments(function):
        return (), {}
    parameters = _parameters(function)
    import tyro  # noqa: PLC0415 - programs without arguments need not wait for it

    takes_any_name = parameters[-1:] and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    parser = _stand_in(function, parameters[:-1] if takes_any_name else parameters)
    words = _with_flags(_with_names(words, parameters), parser)
    (args, kwargs), unknown = tyro.cli(parser, args=words, prog=prog, return_unknown_args=True)
    for word in unknown:
        name, equals, value = word.partition("=")
        if not (takes_any_name and equals and name.startswith("--")):
            raise errors.PlanError(_not_known(word, _options(parser), prog))
        kwargs[name[2:].replace("-", "_")] = _literal(value)
    return args, kwargs


def _is_callable_without_arguments(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    return True


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except NameError as error:
        raise errors.PlanError(
            f"the annotations of {shown(function)} cannot be evaluated: {error}; import what they name at run time, "
            "not under `if TYPE_CHECKING`"
        ) from None


def _stand_in(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Callable[..., Arguments]:
    """A function of the same parameters that returns its arguments: the real one is not called within tyro.

    All of its parameters are keywords; those of the function that can only be given by position are so to tyro.
    """

    def stand_in(**values: Any) -> Arguments:
        args: list[Any] = []
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += values.pop(parameter.name)
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                args.append(values.pop(parameter.name))
        return tuple(args), values

    typed = [_as_keyword(parameter) for parameter in parameters]
    stand_in.__signature__ = inspect.Signature(typed)  # type: ignore[attr-defined] # what inspect looks for
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in typed}
    stand_in.__doc__ = inspect.getdoc(function)
    return stand_in


def _as_keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    from tyro.conf import Positional  # noqa: PLC0415 - loaded by the caller

    given, default = _type_of(parameter), parameter.default
    if parameter.kind is parameter.VAR_POSITIONAL:
        given, default = tuple[given, ...], ()  # type: ignore[valid-type] # a type that only the function knows
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
        given = Positional[given]  # type: ignore[misc, valid-type] # a type that only the function knows
    return parameter.replace(annotation=given, default=default, kind=parameter.KEYWORD_ONLY)


def _type_of(parameter: inspect.Parameter) -> Any:
    from tyro.constructors import PrimitiveConstructorSpec  # noqa: PLC0415 - loaded by the caller

    given = parameter.annotation
    if given is parameter.empty and isinstance(parameter.default, (bool, str)):
        given = type(parameter.default)
    if given in (parameter.empty, Any):
        literal = PrimitiveConstructorSpec(
            nargs=1,
            metavar="VALUE",
            instance_from_str=lambda words: _literal(words[0]),
            is_instance=lambda _: True,
            str_from_instance=lambda value: [value if isinstance(value, str) else repr(value)],
        )
        return Annotated[Any, literal]
    return given


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _with_names(words: Sequence[str], parameters: Sequence[inspect.Parameter]) -> list[str]:
    """The first words' parameters put before them, since all parameters are options to tyro."""
    named = list(words)
    for index, (word, parameter) in enumerate(zip(words, parameters, strict=False)):
        if word.startswith("-") and not re.match(r"-\.?\d", word):
            break
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            named[index] = f"--{parameter.name}={word}"
    return named


def _with_flags(words: Sequence[str], parser: Callable[..., Arguments]) -> list[str]:
    """``--flag=True`` as ``--flag``, and ``--flag=False`` as ``--no-flag``: sweeps write truth values so."""
    found = [_TRUTH_VALUE.fullmatch(word) for word in words]
    options = set(_options(parser)) if any(found) else set()
    flags = list(words)
    for index, match in enumerate(found):
        if match:
            path, name = match["path"] or "", match["name"].replace("_", "-")
            if (negated := f"--{path}no-{name}") in options:
                flags[index] = f"--{path}{name}" if match["value"].lower() == "true" else negated
    return flags


def _options(parser: Callable[..., Arguments]) -> list[str]:
    import tyro  # noqa: PLC0415 - loaded by the caller

    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        tyro.cli(parser, args=["--help"])
    return re.findall(r"--[a-zA-Z_][\w.-]*", told.getvalue())


def _not_known(word: str, options: Sequence[str], prog: str) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"{word!r} is the value of no argument (values without names come first, one for each: {prog} --help)"
    fields = [option for option in options if option.startswith(f"{name}.")]
    close = fields[:1] or difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(dict.fromkeys(options))}"
    return f"there is no argument {name}; {hint} (all of them: {prog} --help)"
