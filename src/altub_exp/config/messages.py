"""Translation of Hydra's and OmegaConf's errors about a configuration into one sentence that names the remedy."""

from __future__ import annotations

import difflib
import re

from yaml import MarkedYAMLError
from yaml.reader import ReaderError

from altub_exp.config.compose import options
from altub_exp.config.fields import all_fields, assignment, shortened
from altub_exp.config.schema import Config
from altub_exp.errors import UserError, did_you_mean


def explain(error: Exception) -> str:
    """Return one sentence with the mistake and its remedy.

    >>> from altub_exp.errors import UserError
    >>> explain(UserError("The folder is missing."))
    'The folder is missing.'
    """
    return str(error) if isinstance(error, UserError) else shortened(_sentence(error), most=500)


def _sentence(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f" in line {mark.line + 1} of {mark.name}" if mark else ""
        return f"There is a mistake{place}, {error.problem or 'which is not YAML'}: correct the file."
    if isinstance(error, UnicodeDecodeError | ReaderError):
        return f"A configuration file is not UTF-8 text ({error}): save it as UTF-8."
    text = str(error)
    within = re.match(r"In '([^']+)': \w+ raised while composing config:\s*", text)
    file = f"{within[1]}.yaml" if within else None
    cause = str(error.__cause__ or (text[within.end() :] if within else error))
    key = _first(r"full_key: ([\w.]+)(?:\[\d+\])*$", f"{cause} {text}")  # under a debugger OmegaConf has no cause
    if match := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, option = match[1].rpartition("/")
        return _choose(f"{group}={option} does not exist", option, options(group))
    if addition := _first(r"To append to your default list use (\+\S+)", text):
        return f"{addition[1:]} is not there to be replaced: add it, {addition}."
    if match := re.search(
        r"Could not override '([^']+)'|Could not append to config\. An item is already at '([^']+)'", text
    ):
        return unknown_key(match[1] or match[2])
    if override := _first(r"Error parsing override '([^']*)'", text):
        return f"{override!r} is neither KEY=VALUE nor GROUP=OPTION: see --help."
    if match := re.search(
        r"Ambiguous value for argument '(.*)'\s+1\. To use|Sweep parameters '(.*)' requires --multirun", text, re.DOTALL
    ):
        return _several_values(*(match[1] or match[2]).partition("=")[::2])
    if re.search("missing mandatory value", text, re.IGNORECASE) and key:
        return f"{key} has no value: add {key}=… to the command{_hint(key)}."
    if file and key and re.match(r"Key '[^']*' not in '", cause):
        return f"{file}: {unknown_key(key)}"
    if key or file:
        named = ": ".join(name for name in (file, key) if name)
        return f"{named}: {shortened(cause.splitlines()[0].rstrip('.'), most=300)}."
    text = text.partition("See https://")[0]  # a link to Hydra's grammar does not help
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _several_values(key: str, values: str) -> str:
    given = assignment(key, values, all_fields(Config).get(key))
    remedy = "add -m for a run with each of them"
    if "." in key and given != key:
        remedy += f""", or quote what is a list, '{key}=[{values}]', or one text, '{key}="{values}"'"""
    return f"{given} gives several values: {remedy}."


def keys() -> list[str]:
    """List every key of the configuration, dotted."""
    return sorted(all_fields(Config))


def unknown_key(key: str) -> str:
    """Return the sentence about a key that the configuration does not have, with those that resemble it."""
    known = keys()
    if key in known:
        group = key.partition(".")[0]
        return f"{key} is not a key of the chosen {group}, but of another one: leave it out, or choose that one."
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    by_leaf = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    near = list(dict.fromkeys([*close, *by_leaf]))[:3]
    remedy = f"did you mean {' or '.join(near)}?" if near else "`--cfg job` lists the keys."
    return f"{key} is not a key of the configuration: {remedy}"


def _choose(problem: str, option: str, options: list[str]) -> str:
    return f"{problem}: choose one of {', '.join(options)}{did_you_mean(option, options)}."


def _hint(key: str) -> str:
    return " (the name of a category)" if key == "dataset.category" else ""


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else None
