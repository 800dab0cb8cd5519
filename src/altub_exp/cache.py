"""Shows what the feature cache holds, or prunes it.   python -m altub_exp.cache --help"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from altub_exp.config.compose import cache_defaults
from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.machine.terminal import PlainConsole, duration
from altub_exp.text import say

EPILOG = """examples:
  python -m altub_exp.cache                   # images, GiB and time of last use, per backbone and input size
  python -m altub_exp.cache --prune 10        # leave at most 10 GiB: the least recently used maps are removed
  python -m altub_exp.cache --prune 0         # remove all maps that no running run uses"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the cache, or prune it; return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _show(options))


def _show(options: argparse.Namespace) -> int:
    folder = options.folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no feature cache {folder}: give its folder (cache.dir of the runs).")
    from altub_exp.features.cache import FeatureCache  # after the parser: --help needs no torch

    cache = FeatureCache(folder, cache_defaults().max_gb)
    if options.prune is not None:
        before = sum(file.size for file in cache.files())
        cache.prune(options.prune)
        removed = before - sum(file.size for file in cache.files())
        say(f"{removed / 2**30:.2f} GiB removed.")
    recipes = defaultdict(list)
    for file in cache.files():
        recipes[file.path.parent].append(file)
    table = Table("backbone", "input", "processor", "images", "GiB", "last used", box=box.SIMPLE_HEAD)
    for recipe_folder, files in sorted(recipes.items()):
        recipe = json.loads((recipe_folder / "recipe.json").read_text())
        table.add_row(
            str(recipe["backbone"]),
            f"{recipe['image_size']} px" + (f" of {recipe['tiles']}" if "tiles" in recipe else ""),
            str(recipe["processor"]),
            str(len(files)),
            f"{sum(file.size for file in files) / 2**30:.2f}",
            f"{duration(max(0.0, time.time() - files[-1].used))} ago",
        )
    console = PlainConsole()
    console.print(table)
    total = sum(file.size for files in recipes.values() for file in files)
    console.print(f"{total / 2**30:.2f} GiB in {folder}", soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("cache", "Show what the feature cache holds, or prune it.", EPILOG)
    default = cache_defaults().dir
    parser.add_argument("folder", type=Path, nargs="?", default=default, help="default: %(default)s")
    parser.add_argument("--prune", type=gib, metavar="GIB", help="remove the least recently used maps beyond this")
    return parser


def gib(text: str) -> float:
    """Parse a number of GiB, 0 or more; raise a ValueError for anything else."""
    value = float(text)
    if not value >= 0:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
