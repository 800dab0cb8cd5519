"""The bounds of every field, by properties over the whole schema."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altub_exp.config.bounds import Grid, Length, PathComponent, PathName, Range, Text
from altub_exp.config.fields import all_fields, enforce
from altub_exp.config.schema import Config
from altub_exp.errors import UserError
from tests.commandline import ROOT
from tests.config.nonsense import base

FIELDS = sorted(all_fields(Config).items())
NUMBERS = [(key, field) for key, field in FIELDS if field.kind in (int, float)]
TEXTS = [(key, field) for key, field in FIELDS if field.kind is str]
LISTS = [(key, field) for key, field in FIELDS if field.kind is list]
PROPERTY = settings(max_examples=40, deadline=None, database=None, derandomize=True)
GOOD_TEXTS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/.~"), min_size=1, max_size=40)


@pytest.fixture
def changed(compose):
    """A function that returns a configuration with one value replaced, whatever its type."""
    composed = {}

    def with_value(key, value):
        overrides = tuple(base(key))
        if overrides not in composed:
            composed[overrides] = compose(*overrides, "dataset.category=mono")
        return replaced(composed[overrides], key, value)

    return with_value


def replaced(node, key, value):
    name, _, rest = key.partition(".")
    return replace(node, **{name: replaced(getattr(node, name), rest, value) if rest else value})


def interval(field):
    """Return the range of a number, and if its ends belong to it."""
    (bound,) = [bound for bound in field.bounds if isinstance(bound, Range)]
    least = bound.least if bound.least is not None else bound.above
    most = bound.most if bound.most is not None else bound.below
    return bound, least, most


def test_every_number_has_a_lower_end_and_every_text_and_list_bounds():
    assert len(FIELDS) > 100
    for key, field in NUMBERS:
        assert interval(field)[1] is not None, key
    assert all(field.bounds for _, field in TEXTS + LISTS)


@pytest.mark.parametrize(("key", "field"), NUMBERS, ids=[key for key, _ in NUMBERS])
def test_numbers_at_their_bounds_are_accepted_and_those_outside_name_the_key(changed, key, field):
    bound, least, most = interval(field)
    ends = [end for end in (bound.least, bound.most) if end is not None]
    within = [math.nextafter(bound.above, math.inf)] if bound.above is not None else []
    within += [math.nextafter(bound.below, -math.inf)] if bound.below is not None else []
    for value in (*ends, *within, *([] if bound.finite else [math.inf])):
        enforce(changed(key, field.kind(value)))

    below = st.integers(max_value=least - (bound.above is None)) if field.kind is int else st.floats(max_value=least)
    above = st.nothing()
    if most is not None:
        above = st.integers(min_value=most + 1) if field.kind is int else st.floats(min_value=most)
    undefined = st.sampled_from([math.nan]) if field.kind is float else st.nothing()
    wrong = (below | above | undefined).filter(lambda value: value not in (*ends, *within))

    @PROPERTY
    @given(wrong)
    def refused(value):
        with pytest.raises(UserError, match=f"^{key}=.* is (too small|too large|not a|no multiple)[^\n]*[.]$"):
            enforce(changed(key, value))

    refused()


@pytest.mark.parametrize(("key", "field"), TEXTS, ids=[key for key, _ in TEXTS])
def test_texts_in_any_script_are_accepted_and_empty_long_or_unprintable_ones_are_not(changed, key, field):
    wrong = st.sampled_from(["", " ", "a" * 5000]) | st.text(min_size=1, max_size=5).map("a\x1b{}".format)
    wrong |= st.sampled_from(["a\nb", "\0", "\ud800", "x\u2028y"])
    if any(isinstance(bound, PathComponent) for bound in field.bounds):
        wrong |= st.sampled_from([".", "..", ".x", "/"]) | GOOD_TEXTS.map("../{}".format) | GOOD_TEXTS.map("/{}".format)
        wrong |= GOOD_TEXTS.map("{}/".format)

    grids = any(isinstance(bound, Grid) for bound in field.bounds)
    if grids:
        wrong |= GOOD_TEXTS | st.sampled_from(
            ["0x2", "2x0", "17x1", "1x17", "02x2", "2x3x4", "2X3", "x", "-1x2", "٢x3"]
        )

    @PROPERTY
    @given(st.sampled_from(["1x1", "2x3", "16x16"]) if grids else GOOD_TEXTS)
    def accepted(value):
        if any(isinstance(bound, PathName) and value.lower() in bound.off for bound in field.bounds):
            return
        enforce(changed(key, value))

    @PROPERTY
    @given(wrong)
    def refused(value):
        with pytest.raises(UserError) as caught:
            enforce(changed(key, value))
        assert str(caught.value).startswith(key)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400

    accepted()
    refused()


@pytest.mark.parametrize(("key", "field"), LISTS, ids=[key for key, _ in LISTS])
def test_lists_of_another_length_or_with_wrong_elements_name_the_key(changed, key, field):
    (length,) = [bound for bound in field.bounds if isinstance(bound, Length)]
    for value in ([[1]], ["\0"], [math.nan], [None] if field.elements.kind is str else ["x"]):
        with pytest.raises(UserError, match=f"^{key}="):
            enforce(changed(key, value * max(1, length.least)))
    if length.least:
        with pytest.raises(UserError, match=f"^{key}=.* has {length.least - 1} elements: give "):
            enforce(changed(key, [0.5] * (length.least - 1)))
    else:
        enforce(changed(key, []))


def test_the_longest_texts_are_accepted(changed):
    for key, field in TEXTS:
        for bound in field.bounds:
            if isinstance(bound, PathComponent):
                enforce(changed(key, "a" * bound.longest))
            elif isinstance(bound, PathName):
                enforce(changed(key, f"/{'a' * bound.longest_part}/b"))
            elif isinstance(bound, Text):
                enforce(changed(key, "a" * bound.most))


def test_the_documentation_lists_the_bounds_of_every_field():
    """If a bound changes, put the rows that this test prints into the table."""
    keys = {}
    for key, field in FIELDS:
        if str(field) and not key.startswith("model.protocol."):
            keys.setdefault(str(field) + (", or `null`" if field.optional else ""), []).append(f"`{key}`")
    rows = [f"| {bounds} | {' '.join(names)} |" for bounds, names in sorted(keys.items())]
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert "\n".join(rows) in text, "\n".join(rows)
