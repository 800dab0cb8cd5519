"""The software that computes a run: versions of the packages, and the commit of the checkout."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from altub_exp.config.plugins import discover

PACKAGES = ("altub-exp", "torch", "timm", "FrEIA", "numpy", "mlflow")


def versions() -> dict[str, str]:
    """Return the versions of Python, of plug-ins, and of the installed packages that can change a run's numbers."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed | discover()


def code_fingerprint(package: Path = Path(__file__).parents[1]) -> str:
    """Return a hash of sixteen hex digits over this package's Python files."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def git_state(package: Path = Path(__file__).parents[1]) -> tuple[str | None, bool | None]:
    """Return the commit of this package's checkout, and True if files differ from it.

    Files differ if a tracked file is changed, other than the study's records, to which runs are added; or if a file
    below ``src``, ``conf`` or ``analysis`` is neither tracked nor ignored.

    Returns:
        Commit and difference; ``(None, None)`` without git, outside of a checkout, or if the package is not tracked (an
        installation inside another repository).
    """
    root = package.parents[1]
    # git's own variables, set inside a hook, would point to another repository
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=20).stdout

    try:
        git("ls-files", "--error-unmatch", "--", str(package / "__init__.py"))
        commit = git("rev-parse", "HEAD").strip()
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)study")
        added = git("status", "--porcelain", "--untracked-files=all", "--", "src", "conf", "analysis")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(changed or added)
