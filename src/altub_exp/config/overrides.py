"""The command line before Hydra reads it: options come first, and a text is taken as it is written.

Hydra's grammar has no ``~``, ``ü``, ``#`` or parentheses in a value without quotes, and reads ``1e3`` as a number. Such
a value of the command line is put in quotes here, so that the user need not do it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, RangeSweep, ValueType
from hydra.errors import HydraException

from altub_exp.config.bounds import PathName
from altub_exp.config.compose import left_out
from altub_exp.config.fields import Field, all_fields, assignment, fields_of, shortened
from altub_exp.config.schema import Config
from altub_exp.errors import UserError

MOST_VALUES = 100_000
"""The largest number of values that a range may give a sweep."""


def prepared(arguments: Sequence[str]) -> list[str]:
    """Return the command line's arguments, options before overrides, such that Hydra can read every value.

    Raises:
        UserError: an option is unknown, or an override can have no meaning.

    >>> prepared(["dataset.category=Münze,1e3", "-m", "seed=1"])
    ['-m', "dataset.category='Münze','1e3'", 'seed=1']
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    options = list(arguments)
    overrides: list[str] = parser.parse_intermixed_args(options).overrides or []
    for override in reversed(overrides):
        del options[len(options) - 1 - options[::-1].index(override)]
    return [*options, *map(readable, overrides)]


def readable(override: str) -> str:
    """Return an override that Hydra can read, with the same meaning; one that it can read already stays as it is.

    Raises:
        UserError: the override can have no meaning.

    >>> readable("dataset.category=screw"), readable("dataset.category=true"), readable("tracking.experiment=a (b)")
    ('dataset.category=screw', "dataset.category='true'", "tracking.experiment='a (b)'")
    """
    name, equals, text = override.partition("=")
    key = name.lstrip("+")
    if any("\ud800" <= character <= "\udfff" for character in override):
        raise UserError(f"{shortened(override)} is not UTF-8: rename it.")
    if not equals or name.startswith("~"):
        return override
    field = _fields().get(key)
    if f"${{{key}}}" in text:
        raise UserError(f"{assignment(key, text, field)} refers to itself: give a value.")
    parsed = _parsed(override)
    if parsed is None and text[:1] in ("[", "{") and not _is_text(field):
        raise UserError(f"{assignment(key, text, field)} is incomplete: write it in quotes, '{key}=[A,B]'.")
    if parsed is None or (parsed.value_type is ValueType.SIMPLE_CHOICE_SWEEP and _is_text(field)):
        parts = _split(text)
        return f"{name}={','.join(_part(name, part, field) or in_quotes(part) for part in parts)}"
    _check_sweep(parsed, field)
    return f"{name}={_part(name, text, field)}"


def in_quotes(text: str) -> str:
    """Write a text in the quotes of Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def quoted(value: str) -> str:
    r"""Write a string as a value of Hydra's overrides, in quotes if Hydra would read it as something else.

    >>> quoted("screw"), quoted("01"), quoted("metal nut"), quoted("it's")
    ('screw', "'01'", "'metal nut'", "'it\\'s'")
    """
    if re.fullmatch(r"[A-Za-z_][\w.-]*", value, re.ASCII) and value.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    ):
        return value
    return in_quotes(literal(value))


def literal(value: Any) -> Any:
    r"""Return a text, or a structure of lists and mappings with texts, that OmegaConf resolves to the given one.

    >>> print(literal("${oc.env:HOME}"))
    \${oc.env:HOME}
    """
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: literal(item) for key, item in value.items()}
    return [literal(item) for item in value] if isinstance(value, list) else value


def _part(name: str, text: str, field: Field | None) -> str:
    """Return a value, or one of several values, in quotes if Hydra would read it as another one."""
    parsed = _parsed(f"{name}={text}")
    value = None if parsed is None else parsed._value
    if field is not None and _has_home(field) and (parsed is None or isinstance(value, str | QuotedString)):
        path = value.text if isinstance(value, QuotedString) else text
        if path.startswith("~"):
            return in_quotes(os.path.expanduser(path))
    if parsed is None:
        return in_quotes(text)
    if field is None and "." not in name and value is None and name in fields_of(Config):
        raise left_out(name)
    if (_is_text(field) or (field is None and type(value) in (int, float, bool) and "." not in name)) and (
        parsed.value_type in (ValueType.ELEMENT, ValueType.GLOB_CHOICE_SWEEP)
    ):
        same = value is None or isinstance(value, str | QuotedString) or (field is not None and str(value) == text)
        return text if same else in_quotes(text)
    if field is not None and field.kind is bool and type(value) in (int, float) and value not in (0, 1):
        raise UserError(f"{name.lstrip('+')}={text} is neither true nor false: give one of them.")
    return text


def _check_sweep(override: Override, field: Field | None) -> None:
    """Raise a UserError if an override gives a sweep no values, or endlessly many; an interval is the sweeper's."""
    given = assignment(override.key_or_group, (override.input_line or "").partition("=")[2], field)
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP and field is not None and field.kind is not str:
        raise UserError(f"{given} chooses among the options of a group, and this is a key: give its values, A,B,….")
    sweep = override._value
    if isinstance(sweep, RangeSweep):
        assert sweep.start is not None
        assert sweep.stop is not None
        count = (sweep.stop - sweep.start) / sweep.step if sweep.step else float("inf")
        if not 0 < count <= MOST_VALUES:
            number = "no" if count <= 0 else "too many"
            raise UserError(
                f"{given} has {number} values: range(START,STOP,STEP) begins at START and ends before STOP."
            )


def require_values(overrides: Sequence[Override]) -> None:
    """Raise a UserError for an interval, of which a sweep over all values can take none."""
    for override in overrides:
        if override.value_type is ValueType.INTERVAL_SWEEP:
            raise UserError(
                f"{override.input_line} has no single values: give them, {override.key_or_group}=A,B,…, or take "
                "another sweeper, hydra/sweeper=optuna."
            )


def _parsed(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, ValueError, RecursionError):  # a number may be too long
        return None


@functools.cache
def _fields() -> dict[str, Field]:
    return all_fields(Config)


def _is_text(field: Field | None) -> bool:
    return field is not None and field.kind is str


def _has_home(field: Field) -> bool:
    return any(isinstance(bound, PathName) for bound in field.bounds)


def _split(text: str) -> list[str]:
    """Split a text at its commas, except those in quotes and brackets; at all of them if these are not closed."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return text.split(",") if quote or depth else parts


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message[:1].upper()}{message[1:]}: see --help.")
