"""A user's own options in a folder of ``--config-dir``."""

import pytest
import yaml

from tests.commandline import TINY, folders, run, status

RUN = [*TINY, "train.epochs=1", "eval.first_epoch=1"]


@pytest.fixture
def own(tmp_path):
    """Write a file of the folder ``own``, and return the command line's options."""

    def write(name, content):
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode("latin-1"))
        return ["--config-dir", "own"]

    return write


def test_own_backbone_base_and_data_set_are_options_like_the_others(own, tmp_path):
    own("backbone/late.yaml", "defaults: [r18, _self_]\nkey: late\nlevels: {early: [2, 3], late: [3, 4]}\n")
    own("altub/rarely.yaml", "defaults: [alternating, _self_]\nname: rarely\nfreezing_interval: 20\n")
    options = own("dataset/wool.yaml", "defaults: [synthetic, _self_]\nname: wool\nsize: 48\n")
    run(tmp_path, *options, *RUN, "backbone=late", "altub=rarely", "dataset=wool", "dataset.size=64")
    (folder,) = folders(tmp_path)
    assert folder.parent.relative_to(tmp_path / "runs").parts == ("wool", "fabric", "fastflow-late", "rarely")
    assert yaml.safe_load((folder / "config.yaml").read_text())["backbone"]["stages"] == [2, 3]
    assert status(folder)["state"] == "finished"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("altub/x.yaml", "defaults: [none]\nnames: x\n", "altub/x.yaml: altub.names is not a key of the configuration"),
        ("altub/x.yaml", "name: [x\nbase: y\n", "There is a mistake in line 2 of "),
        ("altub/x.yaml", "name: x\n\tbase: y\n", "There is a mistake in line 2 of "),
        ("altub/x.yaml", "defaults: [none]\nname: h\u00e4\n", "A configuration file is not UTF-8 text"),
        ("altub/x.yaml", "- x\n", "altub/x.yaml: Invalid type assigned: list is not a subclass of AltubConfig"),
        ("altub/x.yaml", "defaults: [nowhere]\n", "altub=nowhere does not exist: choose one of "),
        (
            "altub/x.yaml",
            "defaults: [alternating, _self_]\nfreezing_interval: x\n",
            "altub/x.yaml: altub.freezing",
        ),
        ("altub/y.yaml", "", "altub=x does not exist: choose one of "),
    ],
)
def test_a_mistake_in_ones_own_file_is_one_sentence(own, tmp_path, name, content, sentence):
    _, stderr = run(tmp_path, *own(name, content), *RUN, "altub=x", expect=1)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert sentence in error
    assert "Traceback" not in stderr
