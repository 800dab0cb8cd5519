"""Turns the roles in docstrings (``:class:`Density```) into what mkdocstrings renders: links, or code."""

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object

DOCUMENTED = re.findall(r"^::: (\S+)$", Path(__file__).with_name("interfaces.md").read_text("utf-8"), re.MULTILINE)
ROLE = re.compile(r":(?P<role>[a-z]+):`~?(?P<target>[^`]+)`")


class Roles(Extension):
    """Rewrites every docstring when it has been read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Replace the roles of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(lambda match: _rendered(obj, **match.groupdict()), obj.docstring.value)


def _rendered(obj: Object, role: str, target: str) -> str:
    """Return a link to a name of a documented module, and code for everything else."""
    if role == "math":
        return f"`{target}`"
    code = f"`{target.rpartition('.')[2]}`"
    scope = obj.parent if role == "meth" and obj.is_function else obj.module
    path = target if target.startswith("altub_exp.") or scope is None else f"{scope.path}.{target}"
    linked = any(path == module or path.startswith(f"{module}.") for module in DOCUMENTED)
    return f"[{code}][{path}]" if linked else code
