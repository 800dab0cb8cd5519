"""The fields of a configuration's dataclasses, and the check of their values against the declared bounds.

Without any declaration a number is finite, and a text is UTF-8 without control characters.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from altub_exp.config.bounds import Bound, Range, Secret
from altub_exp.errors import UserError
from altub_exp.text import printable


@dataclass(frozen=True)
class Field:
    """The declared type of a field.

    Attributes:
        kind: its type without bounds and without None: a class, ``list`` or ``dict``.
        bounds: the bounds of its value.
        optional: True if it may be None.
        elements: the type of a list's elements or a mapping's values; None for others.
    """

    kind: Any
    bounds: tuple[Bound, ...]
    optional: bool
    elements: Field | None

    def __str__(self) -> str:
        """Return the bounds in a few words; "" without any."""
        parts = [str(bound) for bound in self.bounds]
        parts += [f"each {self.elements}"] if self.elements is not None and str(self.elements) else []
        return ", ".join(part for part in parts if part)


def declared(hint: Any) -> Field:
    """Return the parts of a type hint, which may be ``Annotated`` and a union with None."""
    bounds: tuple[Bound, ...] = ()
    optional = False
    while True:
        arguments = get_args(hint)
        if get_origin(hint) is Annotated:
            hint, bounds = arguments[0], (*arguments[1:], *bounds)
        elif NoneType in arguments:
            optional = True
            (hint,) = (argument for argument in arguments if argument is not NoneType)
        else:
            break
    kind = get_origin(hint) or hint
    return Field(kind, bounds, optional, declared(arguments[-1]) if kind in (list, dict) else None)


def fields_of(schema: type) -> dict[str, Field]:
    """Return the declared types of a dataclass's fields by name."""
    return _fields_of(schema)


@functools.cache
def _fields_of(schema: Any) -> dict[str, Field]:
    hints = get_type_hints(schema, include_extras=True)
    return {item.name: declared(hints[item.name]) for item in fields(schema)}


def all_fields(schema: type, prefix: str = "") -> dict[str, Field]:
    """Return the fields of a dataclass, of the dataclasses in it and of their subclasses, by dotted key."""
    found: dict[str, Field] = {}
    for name, field in fields_of(schema).items():
        if is_dataclass(field.kind):
            found |= all_fields(cast("type", field.kind), f"{prefix}{name}.")
        else:
            found.setdefault(prefix + name, field)
    extensions: list[type] = schema.__subclasses__()
    for extension in extensions:
        found = all_fields(extension, prefix) | found
    return found


def undeclared(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that a dataclass, or a dataclass in it, holds without declaring them (``+key=value``)."""
    for name, value in vars(node).items():
        if name not in fields_of(type(node)):
            yield prefix + name
        elif is_dataclass(value):
            yield from undeclared(value, f"{prefix}{name}.")


def enforce(node: Any, prefix: str = "") -> None:
    """Check the values of a dataclass, and of the dataclasses in it, against their declared bounds.

    Args:
        node: an instance of the dataclass.
        prefix: the beginning of its keys in messages, such as ``train.``.

    Raises:
        UserError: a value is out of its bounds; the sentence names the key.
    """
    wrong = [
        (key.count("."), assignment(key, value, field), fault) for key, value, field, fault in _faults(node, prefix)
    ]
    if wrong:  # a default is taken from a key that lies deeper, such as train.epochs from model.protocol.epochs
        _, given, fault = max(wrong, key=lambda item: item[0])
        raise UserError(f"{given} {fault}.")


def _faults(node: Any, prefix: str) -> Iterator[tuple[str, Any, Field, str]]:
    for name, field in fields_of(type(node)).items():
        value = getattr(node, name)
        if is_dataclass(value):
            yield from _faults(value, f"{prefix}{name}.")
        else:
            yield from ((prefix + name, value, field, fault) for fault in faults(value, field))


def faults(value: Any, field: Field) -> Iterator[str]:
    """Yield the faults of a value, each as a part of a sentence that follows ``KEY=VALUE``."""
    if value is None:
        if not field.optional:
            yield "is not a value: give one"
        return
    if isinstance(value, str) and (fault := _unprintable(value)):
        yield fault
        return
    unlimited = any(isinstance(bound, Range) and not bound.finite for bound in field.bounds)
    if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not unlimited)):
        ranges = [bound for bound in field.bounds if isinstance(bound, Range)] or [Range()]
        yield ranges[0].complaint(value) or ""
        return
    if field.kind in (int, float, str) and not isinstance(value, field.kind):
        yield f"is no {'text' if field.kind is str else 'number'}: give one"
        return
    for bound in field.bounds:
        if fault := bound.complaint(value):
            yield fault
    if field.elements is not None:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for place, item in pairs:
            texts = [place] if isinstance(place, str) else []
            for fault in (*(f for text in texts if (f := _unprintable(text))), *faults(item, field.elements)):
                yield f"has a wrong element: {shortened(item)} {fault}"


def assignment(key: str, value: Any, field: Field | None) -> str:
    """Return ``KEY=VALUE`` for a message, or only the key if its value may hold a password."""
    secret = field is not None and any(isinstance(bound, Secret) for bound in field.bounds)
    return key if secret else f"{key}={shortened(value)}"


def shortened(value: Any, most: int = 100) -> str:
    """Return a value for a message: on one line, in printable characters, at most that many of them."""
    text = printable(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _is_plain(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def _unprintable(text: str) -> str | None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "is not UTF-8: rename it"
    return None if all(map(_is_plain, text)) else "has control characters: leave them out"
