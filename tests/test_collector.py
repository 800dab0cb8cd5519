"""The garbage collector rests while libraries are imported, and only then."""

import gc
import weakref

import pytest

from altub_exp.collector import collection_paused


class Run:
    """Something that only the collector can free."""

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
