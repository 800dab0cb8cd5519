"""Configurations that make no sense, written from the schema and its bounds."""

from altub_exp.config.bounds import Length, PathComponent, PathName, Range, Text
from altub_exp.config.fields import all_fields, fields_of
from altub_exp.config.schema import (
    CFlowConfig,
    Config,
    CSFlowConfig,
    DatasetConfig,
    DifferNetConfig,
    DraemConfig,
    ElpvConfig,
    FastFlowConfig,
    FolderConfig,
    ModelConfig,
    MSFlowConfig,
    PatchCoreConfig,
    RealIadConfig,
)

PARTS = {
    "model": {
        "cflow": CFlowConfig,
        "csflow": CSFlowConfig,
        "differnet": DifferNetConfig,
        "fastflow": FastFlowConfig,
        "msflow": MSFlowConfig,
        "patchcore": PatchCoreConfig,
        "draem": DraemConfig,
    },
    "dataset": {"elpv": ElpvConfig, "folder": FolderConfig, "realiad": RealIadConfig, "synthetic": None},
}
COMMON = {"model": ModelConfig, "dataset": DatasetConfig}


def choice(key):
    """Return the options whose configuration has a key."""
    group, _, name = key.partition(".")
    for option, schema in PARTS.get(group, {}).items():
        if schema is None or name.partition(".")[0] in fields_of(schema).keys() - fields_of(COMMON[group]).keys():
            return [f"{group}={option}"]
    return []


def base(key):
    """Return the overrides of a configuration that makes sense and has the key."""
    chosen = choice(key)
    if chosen == ["model=cflow"]:
        chosen = [*chosen, "model.feature_norm=none"]
    weights = [] if chosen == ["model=draem"] else ["backbone.weights=random"]
    return [*chosen, *([] if key == "dataset.category" else ["dataset.category=mono"]), *weights]


def outside(bound):
    """Return the numbers next to the outside of a range."""
    if bound.least is not None:
        yield bound.least - 1
    if bound.above is not None:
        yield bound.above
    if bound.most is not None:
        yield bound.most + 1
    if bound.below is not None:
        yield bound.below
    if bound.multiple_of > 1:
        yield bound.least + 1


def numbers(field):
    for bound in field.bounds:
        if isinstance(bound, Range):
            yield from outside(bound)
            yield from (-1e300, 1e300) if bound.finite and field.kind is float else ()
    if field.kind is float:
        infinite = any(isinstance(bound, Range) and not bound.finite for bound in field.bounds)
        yield from ("nan", "-inf", *([] if infinite else ["inf"]))
    if field.kind is int:
        yield from ("1.5", "nan", "inf", "1e3", "0x10", "9" * 5000)


def texts(field):
    for bound in field.bounds:
        if isinstance(bound, PathComponent):
            yield from ("''", "..", ".", "/etc", "a/b", "a/", "../x", ".x", "a" * 161, "ü" * 100)
        if isinstance(bound, PathName):
            yield from ("''", "' '", "a" * 256, "a/" * 2048)
        if isinstance(bound, Text):
            yield from ("''", "' '", "a" * (bound.most + 1))
    yield from ('"a\nb"', "a\x1b[31mb", "a\x7f")


def lists(field):
    for bound in field.bounds:
        if isinstance(bound, Length):
            if bound.least:
                yield "[]"
            if bound.most is not None:
                yield str([0.5] * (bound.most + 1) if field.elements.kind is float else [*range(1, bound.most + 2)])
    yield from ("[1,1]", "5", "text", "{a:1}", "[[1]]", "[null]", "[x,y")
    if field.elements.kind is not str:
        yield from ("[nan]", "[x]", "[true]")


def nonsense(key, field):
    """Return values that the key cannot have, as written on the command line."""
    if field.kind is dict:
        yield from ("5", "[1]", "{mvtec:{screw:0}}", "{mvtec:{screw:x}}", "{mvtec:5}", "{mvtec:null}")
    elif field.kind is list:
        yield from lists(field)
    elif field.kind is str:
        yield from texts(field)
    elif field.kind is bool:
        yield from ("7", "0.5", "maybe", "[true]", "{a:1}", "''", "nan")
    else:
        yield from numbers(field)
        yield from ("many", "[1]", "{a:1}", "''", "true", "Münze", "~", "1 2", "(1", "#", "a=b", "'")
    if not field.optional:
        yield "null"
    if not key.startswith(("backbone.fastflow.", "backbone.levels.")):  # the message names the key that takes it
        yield f"${{{key}}}"
    yield from ("${nowhere}", "${oc.env:NOWHERE}", "${nowhere:1}", "${", "range(1,3)", "interval(1,2)")


def cases():
    """Return pairs of a key and the overrides of a command that makes no sense because of it."""
    for key, field in sorted(all_fields(Config).items()):
        for value in nonsense(key, field):
            yield key, [*base(key), f"{key}={value}"]
    for group in ("model", "backbone", "dataset", "altub", "experiment"):
        for value in ("nope", "Münze", "..", "[x]", "{a:1}", "a b", "'", "1", "nan", "(", "a,b", "glob(*)"):
            yield group, [*base("dataset.categories"), f"{group}={value}"]
    for group in ("model", "backbone", "dataset", "altub", "train", "eval", "tracking", "cache", "sweep"):
        yield group, [*base("dataset.categories"), f"{group}=null"]
        yield group, [*base("dataset.categories"), f"~{group}"]
    for group in ("train", "eval", "tracking", "cache", "sweep"):
        for value in ("1", "[x]", "text", "true"):
            yield group, [*base("dataset.categories"), f"{group}={value}"]
    for unknown in ("nope", "train.epoch", "model.foo", "dataset.nope", "altub.x.y", "seeds", "model.protocol.lrr"):
        for prefix in ("", "+", "++"):
            yield unknown, [*base("dataset.categories"), f"{prefix}{unknown}=1"]
