"""Freed memory is used again, in a process of its own, for what malloc is told holds for the whole process."""

import subprocess
import sys

import pytest

FAULTS = """
import platform, resource, sys, torch
from altub_exp.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for step in range(12):
    if step == 6:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2**20 * size) for size in (1, 4, 2, 8)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, platform.libc_ver()[0])
"""


def page_faults(how: str) -> int:
    answer = subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout
    faults, libc = answer.split()
    if libc != "glibc":
        pytest.skip("not glibc")
    return int(faults)


def test_large_blocks_are_used_again_without_fresh_pages() -> None:
    assert page_faults("kept") < page_faults("returned") / 10
