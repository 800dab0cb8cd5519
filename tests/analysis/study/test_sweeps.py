"""The sweeps of the study compose to the grid that its protocol describes."""

import re
from collections import Counter
from dataclasses import asdict

import pytest
import yaml

from altub_exp.config.check import check
from altub_exp.sweep import paper_sweeps
from analysis.paper.paper_runs import composed_runs
from analysis.study.grid import part
from analysis.study.protocol import DATA, NORMS, PARTS, SEEDS
from tests.commandline import ROOT
from tests.sweep.test_paper_sweeps import header

SWEEPS = [sweep for sweeps in PARTS.values() for sweep in sweeps]


def seeds(sweep):
    """Return the number of a sweep's seeds, as its file or the one that it extends lists them."""
    content = yaml.safe_load((ROOT / "conf" / "sweeps" / f"{sweep}.yaml").read_text())
    listed = content["hydra"]["sweeper"]["params"].get("seed")
    return seeds(content["defaults"][0]) if listed is None else len(str(listed).split(","))


class Jobs(dict):
    """The jobs of seed 1 of the sweeps, each composed when a test asks for it; all seeds would take minutes."""

    def __missing__(self, sweep):
        self[sweep] = paper_sweeps.jobs(sweep, "seed=1")
        return self[sweep]


@pytest.fixture(scope="module")
def jobs():
    return Jobs()


QUICK = ("study_a", "study_f")
marked = pytest.mark.parametrize(
    "sweep", [pytest.param(sweep, marks=() if sweep in QUICK else pytest.mark.slow) for sweep in SWEEPS]
)


@marked
def test_headers_say_what_the_file_composes_to(jobs, sweep):
    text = header(sweep)
    assert text.startswith(f"The study, part {sweep[6]} (docs/study-protocol.md): ")
    assert re.search(rf"^python -m altub_exp.train -m \+sweeps={sweep} .*cpu_slots=2 threads=1$", text, re.MULTILINE)
    assert int(re.search(r"^Jobs: (\d+)", text, re.MULTILINE)[1]) == len(jobs[sweep]) * seeds(sweep)
    assert re.search(r"^Cost: 0 GPU-hours; about .* core-hours? of a CPU, .*estimated", text, re.MULTILINE)
    assert re.search(r"^Shared: ", text, re.MULTILINE)
    assert seeds(sweep) == SEEDS[sweep[6]]


@pytest.mark.slow
def test_planned_runs_are_those_of_all_seeds():
    sweep = "study_c_nonaffine"
    expected = [(run.params, run.tags, run.values) for run in composed_runs(sweep)]
    found = [run for run in part("c", []) if run.norm == "nonaffine"]
    assert len(found) == len(expected)
    for run in found:
        assert run.params in [params for params, _, _ in expected]


@marked
def test_every_job_is_valid_and_of_the_study(jobs, sweep):
    for job in jobs[sweep]:
        check(job.config)
        assert job.config.tracking.experiment == "study"
        assert job.config.dataset.image_size == (256 if sweep == "study_e_256px" else 128)
    assert len({job.folder.path for job in jobs[sweep]}) == len(jobs[sweep])


@pytest.mark.slow
def test_parts_have_the_runs_of_the_protocol(jobs):
    document = (ROOT / "docs" / "study-protocol.md").read_text()
    earlier = set()
    for name, sweeps in PARTS.items():
        new = {job.folder.path: seeds(sweep) for sweep in sweeps for job in jobs[sweep]}
        count = sum(number for path, number in new.items() if path not in earlier)
        assert re.search(rf"^\| {name} \| .* \| {count} \| [\d.]+ \|$", document, re.MULTILINE), name
        earlier |= set(new)


def test_part_a_is_the_protocols(jobs):
    grid = Counter()
    for job in jobs["study_a"]:
        config = job.config
        window = (config.eval.first_epoch, config.eval.last_epoch, config.eval.every, config.eval.ks_every)
        assert (*window, config.train.epochs) == (34, 100, 1, 4, 100)
        assert config.eval.fitted == (config.altub.name == "none")
        assert config.backbone.key == "lite0"
        grid[config.dataset.name, config.dataset.category, config.model.feature_norm, config.altub.name] += 1
    expected = [
        (data.dataset, data.category, norm, base) for data in DATA for norm in NORMS for base in ("none", "alternating")
    ]
    assert grid == Counter(expected)


@pytest.mark.slow
def test_data_sets_and_seeds_come_in_the_order_of_the_protocol():
    found = paper_sweeps.jobs("study_a", "seed=1,2", "altub=none", "model.feature_norm=none")
    order = [(job.config.dataset.category, job.config.seed) for job in found]
    assert order == [(data.category, seed) for data in DATA for seed in (1, 2)]


@pytest.mark.slow
def test_other_parts_change_what_they_name_and_nothing_else(jobs):
    """Every job of parts c to f differs from one of part a in the keys of its sweep only."""
    references = {
        (job.config.dataset.category, job.config.model.feature_norm, job.config.altub.name): asdict(job.config)
        for job in jobs["study_a"]
    }
    allowed = {
        "study_e_freezing": {"altub.freezing_interval"},
        "study_e_rate": {"altub.max_lr"},
        "study_e_clipping": {"altub.clip"},
        "study_e_256px": {"dataset.image_size"},
        "study_f": {"model.steps"},
    }
    for sweep, keys in allowed.items():
        for job in jobs[sweep]:
            config = job.config
            reference = references[config.dataset.category, config.model.feature_norm, config.altub.name]
            assert differing(asdict(config), reference) <= keys, sweep
    backbones = {"study_b": "mobilenetv2", "study_e_lite2": "lite2"}
    for sweep, backbone in backbones.items():
        for job in jobs[sweep]:
            config = job.config
            reference = references[config.dataset.category, config.model.feature_norm, config.altub.name]
            assert {key.partition(".")[0] for key in differing(asdict(config), reference)} == {"backbone"}
            assert config.backbone.key == backbone


def differing(config, reference, prefix=""):
    """Return the dotted keys whose values differ."""
    keys = set()
    for name, value in config.items():
        key, other = f"{prefix}{name}", reference[name]
        if isinstance(value, dict) and isinstance(other, dict) and value.keys() == other.keys():
            keys |= differing(value, other, f"{key}.")
        elif value != other:
            keys.add(key)
    return keys
