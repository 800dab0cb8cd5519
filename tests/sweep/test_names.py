"""The names of sweeps and of their runs in MLflow."""

import pytest

from altub_exp.sweep import paper_sweeps
from altub_exp.sweep.names import LONGEST_TITLE, run_names, sweep_name, sweep_title


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["experiment=demo", "altub=none,alternating"], "altub=none,alternating"),
        (
            ["altub=none,alternating", "dataset.category=all", "seed=1,2"],
            "altub=none,alternating · dataset.category=all · seed=1,2",
        ),
        (["seed=range(1,4)", "hydra/launcher=gpu_pool", "hydra.launcher.gpus=[0,1]"], "seed=range(1,4)"),
        (["+sweeps=table_a1", "seed=1,2"], "table_a1"),
        (["experiment=demo", "seed=1", "sweep.retry_failed=true"], "experiment=demo · seed=1"),
        ([], "sweep-1271cf25"),
    ],
)
def test_a_sweep_is_named_by_the_keys_with_several_values(arguments, title):
    assert sweep_title(arguments) == title


def test_a_long_list_is_cut_in_the_title_only():
    categories = ",".join(f"category{number}" for number in range(50))
    arguments = [f"dataset.category={categories}", "altub=none,alternating", f"seed={','.join(map(str, range(100)))}"]
    title = sweep_title(arguments)
    assert len(title) <= LONGEST_TITLE
    assert title.startswith("dataset.category=category0,category1,")
    assert "… · altub=none,alternating · seed=0,1," in title
    other = [*arguments[:2], f"{arguments[2]},100"]
    assert sweep_title(other) == title
    assert sweep_name(other) != sweep_name(arguments)


def names(sweep, *arguments):
    return list(run_names(paper_sweeps.jobs(sweep, *arguments)).values())


def test_runs_are_named_by_what_distinguishes_them():
    assert names("table6")[:3] == ["capsule · r18 · none", "capsule · r18 · stereotype", "capsule · r18 · cnn"]
    assert names("table6", "backbone=cait", "altub=none", "seed=1,2") == [
        "capsule · none · seed 1",
        "capsule · none · seed 2",
    ]
    assert names("table6", "backbone=r18", "altub=none", "train.lr=1e-3,2e-3") == [
        "capsule · none · train.lr=0.001",
        "capsule · none · train.lr=0.002",
    ]
    assert names("table6", "backbone=r18", "altub=none") == ["capsule · none"]
