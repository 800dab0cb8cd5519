"""The name of a configuration: what a run is told apart by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any


def identity(part: Mapping[str, Any]) -> str:
    """Eight hex digits that name a configuration: equal whenever all keys and values are equal, in any order.

    Args:
        part: what can change the run's numbers; mappings, sequences, enums, strings, numbers, booleans and None.

    Raises:
        TypeError: another type, or a key that is not a string.

    >>> identity({"seed": 25, "model": {"lr": 1e-3}}) == identity({"model": {"lr": 0.001}, "seed": 25})
    True
    """
    text = json.dumps(_plain(part), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a configuration's keys are strings, not {wrong[0]!r}")
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a configuration holds no {type(value).__name__}: {value!r}")
