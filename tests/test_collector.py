"""The garbage collector rests while libraries are imported, and only then."""

import gc

import pytest

from altub_exp.collector import collection_paused


@pytest.fixture(autouse=True)
def unfrozen():
    yield
    gc.unfreeze()


def test_it_rests_within_and_works_again_afterwards():
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the inner pause must not end the outer one"
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


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
