"""Memory: freed blocks are reused, and the garbage collector pauses only while libraries are imported.

The former in a separate process, since malloc's options apply to the whole process.
"""

import gc
import subprocess
import sys
import weakref

import pytest

from altub_exp.machine.memory import collection_paused

FAULTS = """
import platform, resource, sys, torch
from altub_exp.machine.memory import keep_freed_memory
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


@pytest.mark.slow
def test_large_blocks_are_used_again_without_fresh_pages() -> None:
    assert page_faults("kept") < page_faults("returned") / 10


class Run:
    """An object that only the collector can free."""

    def __init__(self):
        self.itself = self


def test_it_rests_within_and_works_again_afterwards():
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the inner pause must not end the outer one"
    assert gc.isenabled()


def test_what_was_left_before_and_within_is_freed_afterwards():
    before = weakref.ref(Run())
    with collection_paused():
        within = weakref.ref(Run())
    gc.collect()
    assert before() is None
    assert within() is None


def test_it_works_again_after_an_import_that_fails():
    with pytest.raises(ImportError), collection_paused():
        import no_such_module  # noqa: F401
    assert gc.isenabled()


def test_who_has_switched_it_off_finds_it_off():
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
