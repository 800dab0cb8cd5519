"""The feature cache: computed by one, awaited by the others, equal to recomputing, bounded, and undamaged by kills."""

import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from altub_exp.cache import main
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.features.cache import FeatureCache
from altub_exp.features.cache_key import WeightsSource, digest, image_facts, model_facts, state_sha256
from altub_exp.features.extraction import LateBackbone
from altub_exp.features.maps import FeatureMaps
from altub_exp.features.recipe_cache import RecipeCache, open_recipe
from tests.commandline import TINY, command, environment, equal_models, folders, journal, run
from tests.stores import place_store

CPU = torch.device("cpu")
RECIPE = {"backbone": "toy", "image_size": 8}
BYTES = 4 * (2 * 16 + 4 * 4)


class Toy:
    """Two maps of an image of 8 px, 192 bytes together; counts the images."""

    def __init__(self, seconds=0.0):
        self.seen, self.seconds, self.lock = 0, seconds, threading.Lock()

    def __call__(self, images):
        time.sleep(self.seconds)
        with self.lock:
            self.seen += len(images)
        x = images.float()
        return [x[:, :2, ::2, ::2].clone(), x.repeat(1, 2, 1, 1)[:, :4, ::4, ::4].clone()]


def pixels(count, first=0):
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    for row in range(count):
        images[row] = torch.randint(256, (3, 8, 8), generator=torch.Generator().manual_seed(first + row))
    return images


def maps_of(toy, cache, count, first=0, memory_gb=0.0, recipe=RECIPE):
    """Features of images first … first + count − 1."""
    names = [f"{first + row:064x}" for row in range(count)]
    of_recipe = RecipeCache(cache, recipe)
    return FeatureMaps(
        toy,
        pixels(count, first),
        batch_size=4,
        device=CPU,
        memory_gb=memory_gb,
        lease=lambda: of_recipe.lease(names),
    )


def equal(features, toy, count, first=0):
    expected = toy(pixels(count, first))
    return all(torch.equal(a, b) for a, b in zip(features.batch(torch.arange(count)), expected, strict=True))


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "features", 1.0)


def test_what_one_computed_the_next_one_reads(cache):
    first, second = Toy(), Toy()
    features = maps_of(first, cache, 5)
    assert (features.from_cache, features.kept, features.place) == (0, True, "in the feature cache")
    again = maps_of(second, cache, 5)
    assert (again.from_cache, second.seen) == (5, 0)
    assert again.shapes == features.shapes == [(2, 4, 4), (4, 2, 2)]
    assert equal(again, Toy(), 5)
    more = maps_of(second, cache, 8)
    assert (more.from_cache, second.seen) == (5, 3 + 1)  # the first one is measured before
    assert equal(more, Toy(), 8)


def test_writing_into_a_batch_or_a_map_changes_no_file(cache):
    maps_of(Toy(), cache, 2).batch(torch.arange(2))[0].zero_()
    held = maps_of(Toy(), cache, 2)
    held._maps[0][0].zero_()
    assert equal(maps_of(Toy(), cache, 2), Toy(), 2)


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def truncate(file):
    os.truncate(file, file.stat().st_size - 8)


def empty(file):
    os.truncate(file, 0)


def test_damaged_files_are_noticed_and_computed_anew_with_one_warning(cache, caplog, monkeypatch):
    maps_of(Toy(), cache, 5)
    monkeypatch.setattr(logging.getLogger("altub_exp"), "propagate", True)
    for damage, file in zip((flip_a_byte, truncate, empty), cache.files(), strict=False):
        damage(file.path)
    toy = Toy()
    features = maps_of(toy, cache, 5)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [warning[:45] for warning in warnings] == ["3 files of the feature cache are damaged and "]
    assert (features.from_cache, toy.seen) == (2, 3 + 1)
    assert equal(features, Toy(), 5)
    assert maps_of(toy, cache, 5).from_cache == 5


def test_maps_of_another_image_or_recipe_in_a_file_s_place_are_damage(cache):
    maps_of(Toy(), cache, 2)
    maps_of(Toy(), cache, 1, recipe=RECIPE | {"interpolation": "lanczos"})
    (first, second), (other,) = sorted(
        (sorted(folder.glob("*.safetensors")) for folder in cache.folder.glob("toy-*")), key=len
    )[::-1]
    for wrong in (second, other):
        first.write_bytes(wrong.read_bytes())
        toy = Toy()
        features = maps_of(toy, cache, 2)
        assert (features.from_cache, toy.seen) == (1, 1 + 1)
        assert equal(features, Toy(), 2)


def size_of(cache):
    return sum(file.size for file in cache.files())


def test_it_is_bounded_and_what_was_not_used_for_longest_goes_first(cache):
    for first in (0, 10, 20):
        maps_of(Toy(), cache, 4, first)
        for file in cache.files()[-4:]:
            os.utime(file.path, (1e9 + first, 1e9 + first))
    maps_of(Toy(), cache, 4, 0)  # used again
    small = FeatureCache(cache.folder, size_of(cache) / 2**30)
    assert maps_of(Toy(), small, 4, 30).kept
    assert size_of(cache) <= small.max_gb * 2**30
    assert {first: maps_of(Toy(), cache, 4, first).from_cache for first in (0, 20, 30)} == {0: 4, 20: 4, 30: 4}
    assert maps_of(Toy(), cache, 4, 10).from_cache < 4


def test_nothing_in_use_is_removed_and_what_does_not_fit_is_not_stored(cache, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("altub_exp"), "propagate", True)
    held = maps_of(Toy(), cache, 4)
    small = FeatureCache(cache.folder, (size_of(cache) * 6.5 / 4) / 2**30)
    toy = Toy()
    other = maps_of(toy, small, 4, 10, memory_gb=1.5 * BYTES / 2**30)
    assert "is full (cache.max_gb" in caplog.text
    assert other.place == "of which those of 1 images are recomputed in every epoch"  # two are stored, one is kept
    assert size_of(cache) <= small.max_gb * 2**30
    assert equal(other, Toy(), 4, 10)
    assert equal(held, Toy(), 4)
    assert maps_of(Toy(), cache, 4).from_cache == 4
    del held
    cache.prune(0.0)
    assert [file.path.name[:64] for file in cache.files()] == [f"{image:064x}" for image in (10, 11)]
    del other
    cache.prune(0.0)
    assert sorted(path.name for path in cache.folder.iterdir()) == [".lock"]


def test_a_disk_that_takes_no_more_is_one_warning_and_training_goes_on(cache, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("altub_exp"), "propagate", True)
    maps_of(Toy(), cache, 1)  # the small files are there
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = FeatureCache.prune

    def then_full(self, *arguments):
        """The system lets no file grow beyond 100 bytes once there is room for the maps."""
        excess = real(self, *arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        return excess

    monkeypatch.setattr(FeatureCache, "prune", then_full)
    try:
        features = maps_of(Toy(), cache, 5, memory_gb=1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "cannot store more" in warnings[0]
    assert "File too large" in warnings[0]
    assert features.kept
    assert equal(features, Toy(), 5)
    assert not list(cache.folder.glob("*/*.tmp"))


def test_a_folder_that_cannot_be_used_is_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("altub_exp"), "propagate", True)
    (tmp_path / "file").write_text("")
    features = maps_of(Toy(), FeatureCache(tmp_path / "file" / "features", 1.0), 3, memory_gb=1.0)
    assert "cannot be used" in caplog.text
    assert features.place == "kept in memory"
    assert equal(features, Toy(), 3)


def test_images_that_cannot_be_computed_leave_nothing_in_the_cache(cache):
    def refuse(images):
        raise UserError("no")

    with pytest.raises(UserError):
        maps_of(refuse, cache, 3)
    assert sorted(path.name for path in cache.folder.iterdir()) == [".lock"]


def test_the_command_shows_what_there_is_and_prunes_it(cache, capsys):
    for size in (8, 16):
        maps_of(Toy(), cache, 4, recipe=RECIPE | {"image_size": size, "processor": "x86_64"})
    assert main([str(cache.folder)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:5] for line in shown.splitlines() if " px " in line] == [
        ["toy", "16", "px", "x86_64", "4"],
        ["toy", "8", "px", "x86_64", "4"],
    ]
    assert main([str(cache.folder), "--prune", str(size_of(cache) / 2 / 2**30)]) == 0
    assert len(cache.files()) == 4
    assert "GiB removed." in capsys.readouterr().out
    assert main([str(cache.folder / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no feature cache")


HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from altub_exp.features.cache import FeatureCache
from tests.features.test_cache import Toy, maps_of
features = maps_of(Toy(), FeatureCache(Path(sys.argv[1]), 1.0), 3)
print("held", flush=True)
time.sleep(600)
"""
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def test_what_another_process_uses_stays_until_it_dies(cache):
    arguments = [sys.executable, "-u", "-c", HOLDER, str(cache.folder), ROOT]
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            (lease,) = cache.folder.glob("*/*.lease")
            being_written = lease.with_suffix(".0.tmp")
            being_written.write_bytes(b"half a ma")
            assert cache.prune(0.0) > 0
            assert len(cache.files()) == 3
            assert being_written.exists()
        finally:
            holder.kill()
    assert cache.prune(0.0) == 0
    assert sorted(path.name for path in cache.folder.iterdir()) == [".lock"]


WORKER = """
import logging, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[4])
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from altub_exp.features.cache import FeatureCache
from tests.features.test_cache import Toy, equal, maps_of
torch.set_num_threads(2)
toy = Toy(seconds=float(sys.argv[2]))
features = maps_of(toy, FeatureCache(Path(sys.argv[1]), 1.0), int(sys.argv[3]))
print("computed", toy.seen, "equal", equal(features, Toy(), int(sys.argv[3])), flush=True)
"""


def worker(folder, seconds, count):
    arguments = [sys.executable, "-u", "-c", WORKER, str(folder), str(seconds), str(count)]
    return subprocess.Popen([*arguments, ROOT], env=environment(), stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_of_many_processes_one_computes_and_when_it_is_killed_another_goes_on(cache):
    count = 60
    workers = [worker(cache.folder, 0.1, count) for _ in range(4)]
    try:
        deadline = time.monotonic() + 120
        while len(cache.files()) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        computing = next(one for one in workers if holds_a_lock(one.pid, cache.folder))
        computing.send_signal(signal.SIGKILL)
        said = {one.pid: one.communicate(timeout=120)[0] for one in workers}
    finally:
        for one in workers:
            one.kill()
            one.wait()
    assert "computing the features of 60" in said[computing.pid]
    others = [said[one.pid] for one in workers if one is not computing]
    assert "computed" not in said[computing.pid].replace("computing", "")
    assert all("equal True" in text for text in others)
    computed = sorted(int(text.split("computed ")[1].split()[0]) for text in others)
    assert computed[:2] == [0, 0], "the others have waited"
    assert 0 < computed[2] <= count - 10 + 1, "and what was done stayed"
    assert sum("waiting for it" in text for text in others) >= 1
    assert len(cache.files()) == count
    assert not list(cache.folder.glob("*/*.tmp"))


def holds_a_lock(pid, folder):
    """True if the process holds the lock of those that compute."""
    inodes = {f":{file.stat().st_ino} " for file in folder.glob("*/*.lock")}
    with open("/proc/locks") as locks:
        return any(f" {pid} " in line and any(inode in line for inode in inodes) for line in locks)


def test_the_recipe_tells_apart_whatever_changes_a_map():
    def recipe(
        name="resnet18.tv_in1k", stages=(1, 2), final_norm=False, size=32, interpolation="bilinear", seed=0, bits=None
    ):
        backbone = Backbone(name, list(stages), weights="random", final_norm=final_norm, seed=seed)
        model = model_facts(name, stages, final_norm, CPU)
        return digest({**model, "state": state_sha256(backbone), **image_facts(size, interpolation, bits)})

    assert recipe() == recipe()
    others = [
        recipe(name="resnet18.a1_in1k"),
        recipe(stages=(1, 3)),
        recipe(size=64),
        recipe(interpolation="antialias"),
        recipe(seed=1),
        recipe(bits=12),
        recipe(bits=16),  # without the key, dark images are refused
    ]
    assert len({recipe(), *others}) == 8


def test_the_backbone_is_built_once_for_weights_that_are_known(tmp_path, cache):
    model, file = model_facts("resnet18.tv_in1k", [1], False, CPU), tmp_path / "w.pth"
    torch.save(Backbone("resnet18.tv_in1k", [1], weights="random", seed=5).model.state_dict(), file)
    built = []

    def folder(weights):
        def build():
            built.append(weights.weights)
            return Backbone("resnet18.tv_in1k", [1], weights=weights.weights, seed=weights.seed)

        of_recipe = open_recipe(cache, model, image_facts(32, "bilinear"), weights, LateBackbone(build))
        of_recipe.lease(["0" * 64])
        return of_recipe.folder

    random = WeightsSource("random", 5, "resnet18.tv_in1k", None)
    first, second = folder(random), folder(random)
    of_file = folder(WeightsSource(str(file), 0, "resnet18.tv_in1k", "the file's hash"))
    assert built == ["random", str(file)]
    assert first == second == of_file, "the state counts, not where it came from"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run without a cache, with an empty one and with a full one."""
    places = {name: tmp_path_factory.mktemp(name) for name in ("without", "first", "second")}
    run(places["without"], *TINY, "altub=none", "cache.dir=null")
    _, first = run(places["first"], *TINY, "altub=none")
    full = f"cache.dir={places['first']}/cache/features"
    _, second = run(places["second"], *TINY, "altub=none", full, PYTHONPROFILEIMPORTTIME="1")
    return places, first, second


def test_a_run_is_the_same_bit_for_bit_with_and_without_a_cache(runs):
    places, first, second = runs
    found = {name: folders(place)[0] for name, place in places.items()}
    assert len({folder.relative_to(places[name]) for name, folder in found.items()}) == 1, "no part of its identity"
    for name in ("first", "second"):
        assert journal(found[name]) == journal(found["without"])
        assert equal_models(found[name], found["without"])
        assert (found[name] / "maps.png").read_bytes() == (found["without"] / "maps.png").read_bytes()
    assert not (places["without"] / "cache").exists()
    assert "features of 0 of 20 images were in the cache cache/features" in first
    assert "features of 20 of 20 images were in the cache" in second


def test_a_run_with_all_features_in_the_cache_builds_no_backbone(runs):
    imported = {line.rpartition("|")[2].strip() for line in runs[2].splitlines() if line.startswith("import time:")}
    assert "torch" in imported
    assert not imported & {"timm", "torchvision", "huggingface_hub"}


@pytest.mark.slow
def test_a_run_killed_while_it_computes_features_leaves_those_that_are_done(tmp_path):
    place_store(tmp_path)
    arguments = [*TINY, "altub=none", "dataset.image_size=256", "dataset.train_images=40", "train.epochs=1"]
    arguments += ["eval.ks_every=0"]
    cache = FeatureCache(tmp_path / "cache/features", 1.0)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(*arguments), cwd=tmp_path, env=environment(), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 180
            while len(cache.files()) < 4:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()
    done = len(cache.files())
    assert 4 <= done < 50
    _, stderr = run(tmp_path, *arguments)
    assert f"features of {done} of 50 images were in the cache" in stderr
    assert len(cache.files()) == 50


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("cache.max_gb=0", "cache.max_gb=0.0 is too small: give a number above 0, or cache.dir=null."),
        ("cache.dir=false", "cache.dir=False is not a folder: give one, or cache.dir=null for no cache."),
    ],
)
def test_what_makes_no_sense_is_one_sentence(compose, argument, sentence):
    from altub_exp.config.check import check

    with pytest.raises(UserError, match=sentence):
        check(compose("dataset.category=any", argument))
