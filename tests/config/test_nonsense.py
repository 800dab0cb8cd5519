"""Commands that make no sense are answered by one sentence that names the key, before any work."""

import re
from collections import Counter

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from altub_exp.config.check import check
from altub_exp.config.compose import conf_dir, register_schema, typed
from altub_exp.config.messages import explain
from altub_exp.config.overrides import prepared
from altub_exp.errors import UserError
from tests.commandline import TINY, run
from tests.config.nonsense import cases

CASES = list(cases())


def answer(overrides):
    """Return the sentence about a configuration; None if it is accepted."""
    try:
        check(typed(compose("train", prepared(overrides))))
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return explain(error)
    return None


def fault(key, overrides):
    """Return the fault of the answer to a configuration that makes no sense; None if it is one sentence."""
    try:
        sentence = answer(overrides)
    except Exception as error:
        return f"a traceback ({type(error).__name__}: {error})"
    if sentence is None:
        return "accepted"
    value = overrides[-1].partition("=")[2]
    named = key.rpartition(".")[2] in sentence or (value.startswith("${") and "nowhere" in sentence.lower())
    if not named or not re.fullmatch(r"[^\n\x1b\x7f]{10,600}[.?]", sentence):
        return f"no sentence that names the key ({sentence})"
    return None


def unanswered(chosen):
    register_schema()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return {overrides[-1]: problem for key, overrides in chosen if (problem := fault(key, overrides))}


def test_every_25th_nonsense_is_one_sentence():
    assert unanswered(CASES[::25]) == {}


@pytest.mark.slow
def test_all_nonsense_is_one_sentence(capsys):
    wrong = unanswered(CASES)
    with capsys.disabled():
        kinds = Counter(re.split(r" \(", problem)[0] for problem in wrong.values())
        print(f"\nbad configurations not answered by one sentence: {len(wrong)} of {len(CASES)} {dict(kinds)}")
    assert len(CASES) >= 600
    assert wrong == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["+nope=1"], "nope is not a key of the configuration: "),
        (["+train.epoch=1"], "train.epoch is not a key of the configuration: did you mean train.epochs"),
        (["+model.foo=bar"], "model.foo is not a key of the configuration: "),
        (
            ["model=null"],
            "model cannot be left out or null: "
            "choose one of cflow, csflow, differnet, draem, fastflow, msflow, patchcore.",
        ),
        (["train.epochs=${train.epochs}"], "train.epochs=${train.epochs} refers to itself: give a value."),
        (["seed=4294967296"], "seed=4294967296 is too large: give at most 4294967295."),
        (["threads=100000"], "threads=100000 is too large: give at most 1024."),
        (["train.lr=inf"], "train.lr=inf is not a learning rate: give a number above 0, at most 1000000"),
        (["altub.name=../../x"], "altub.name=../../x is a path, and a name is needed: give x."),
        (["dataset.category=fabric/"], "dataset.category=fabric/ is a path, and a name is needed: give fabric."),
        (["backbone.stages=[1,1]"], "backbone.stages=[1, 1] repeats 1: give each element once."),
        (["runs_dir=/dev/null/x"], "cannot be made (Not a directory): set runs_dir to a place that can be written."),
        (["tracking.uri=postgresql://me:word@host/a,b"], "tracking.uri gives several values: add -m"),
        (["sweep.dry_run=true"], "sweep.dry_run=true lists the runs of -m"),
        (["-m", "hydra/sweeper=basic", "sweep.dry_run=true"], "sweep.dry_run=true lists the runs of -m"),
        (["-m", "seed=range(3,1)"], "seed=range(3,1) has no values"),
        (["-m", "seed=range(1,3,0)"], "seed=range(1,3,0) has too many values"),
        (["-m", "altub=glob(x*)"], "The sweep has no runs"),
        (["-m", "seed=1,2", "+train.epoch=1"], "train.epoch is not a key of the configuration"),
        (["-m", "seed=1,2", "train.eps=nan,1e-8"], "train.eps=nan is not a finite number"),
        (["--nope"], "Unrecognized arguments: --nope: see --help."),
    ],
)
def test_nonsense_on_the_command_line_is_one_sentence_before_any_work(tmp_path, arguments, sentence):
    stdout, stderr = run(tmp_path, *TINY, *arguments, expect=1)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert sentence in error
    assert "word@" not in stderr + stdout
    assert "Traceback" not in stderr + stdout
    assert {path.name for path in tmp_path.glob("runs/*")} <= {".sweeps"}  # Hydra's own sweeper makes this one
    assert not (tmp_path / "mlflow.db").exists()
