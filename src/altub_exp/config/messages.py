"""Turns what Hydra and OmegaConf say of a bad configuration into one sentence that names the remedy."""

from __future__ import annotations

import difflib
import re
from dataclasses import is_dataclass
from typing import cast, get_type_hints

from altub_exp.config.compose import options
from altub_exp.config.schema import Config


def explain(error: Exception) -> str:
    """One sentence for a person: what is wrong, and what to write instead.

    >>> from altub_exp.errors import UserError
    >>> explain(UserError("The folder is missing."))
    'The folder is missing.'
    """
    text = str(error)
    cause = str(error.__cause__ or error)
    key = _first(r"full_key: (\S+)", cause)
    if found := re.search(r"Could not find '([^']+)'", text):
        group, _, option = found[1].rpartition("/")
        return _choose(f"{group}={option} does not exist", option, options(group))
    if added := _first(r"To append to your default list use (\+\S+)", text):
        return f"{added[1:]} is not there to be replaced: add it, {added}."
    if found := re.search(
        r"Could not override '([^']+)'|Could not append to config\. An item is already at '([^']+)'", text
    ):
        return _unknown_key(found[1] or found[2])
    if wrong := _first(r"Error parsing override '([^']*)'", text):
        return f"{wrong!r} is neither KEY=VALUE nor GROUP=OPTION: see --help."
    if "missing mandatory value" in text and key:
        return f"{key} has no value: add {key}=… to the command{_hint(key)}."
    if key and error.__cause__ is not None:
        return f"{key}: {cause.splitlines()[0]}."
    text = text.partition("See https://")[0]  # a link to a grammar helps nobody here
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def keys() -> list[str]:
    """Every key of the configuration, dotted."""
    found: set[str] = set()

    def walk(node: type, prefix: str) -> None:
        for kind in [node, *node.__subclasses__()]:
            for name, hint in get_type_hints(kind).items():
                if is_dataclass(hint):
                    walk(cast("type", hint), f"{prefix}{name}.")
                else:
                    found.add(prefix + name)

    walk(Config, "")
    return sorted(found)


def _unknown_key(key: str) -> str:
    known = keys()
    if key in known:
        group = key.partition(".")[0]
        return (
            f"{key} is no key of the option of {group} chosen here, but of another: leave it out, or choose that one."
        )
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    by_leaf = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    near = list(dict.fromkeys([*close, *by_leaf]))[:3]
    remedy = f"did you mean {' or '.join(near)}?" if near else "`--cfg job` lists the keys."
    return f"{key} is not a key of the configuration: {remedy}"


def _choose(problem: str, wrong: str, options: list[str]) -> str:
    close = difflib.get_close_matches(wrong, options, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"{problem}: choose one of {', '.join(options)}{meant}."


def _hint(key: str) -> str:
    return " (the name of a category)" if key == "dataset.category" else ""


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None
