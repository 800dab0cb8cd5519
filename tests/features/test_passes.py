"""Several passes of an image through a backbone (sizes, fixed rotations, pooling), AlexNet and EfficientNet-B5."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import AlexNet

from altub_exp.data.images import rotate
from altub_exp.detector.assembly import build_backbone, passes_of
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.features.extraction import batch, by_rotation
from altub_exp.features.maps import FeatureMaps
from altub_exp.features.passes import Passes

CPU = torch.device("cpu")


def pixels(n=2, size=64):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pooled():
    return Backbone("resnet18.tv_in1k", [1, 4], weights="random", passes=Passes((1, 2), rotations=4, pooled=True))


def test_each_size_is_a_pass_over_every_second_or_fourth_pixel():
    plain = Backbone("resnet18.tv_in1k", [1, 4], weights="random", seed=2)
    several = Backbone("resnet18.tv_in1k", [1, 4], weights="random", seed=2, passes=Passes((1, 2, 4)))
    images = pixels()
    expected = [maps for step in (1, 2, 4) for maps in plain(images[:, :, ::step, ::step])]
    assert [tuple(maps.shape[1:]) for maps in expected[::2]] == [(64, 16, 16), (64, 8, 8), (64, 4, 4)]
    for ours, theirs in zip(several(images), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_pooled_maps_are_the_means_over_the_positions(pooled):
    plain = Backbone("resnet18.tv_in1k", [1, 4], weights="random", passes=Passes((1, 2)))
    for ours, maps in zip(pooled(pixels()), plain(pixels()), strict=True):
        assert torch.equal(ours[:, :, 0, 0], maps.mean(dim=(2, 3)))


def test_rotations_are_evenly_spaced_and_nearest_pixel(pooled):
    images = pixels(3)
    found = batch(pooled, images, CPU, rotations=4)
    assert [tuple(maps.shape) for maps in found] == [(3, 4, c, 1, 1) for c in (64, 512, 64, 512)]
    for turns in range(4):
        expected = pooled(torch.rot90(images, turns, dims=(2, 3)))
        for maps, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(maps[:, turns], theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(by_rotation(found)[1][4], found[1][1, 0])


def features(pooled, images, **changes):
    options = {"batch_size": 2, "device": CPU, "memory_gb": 1.0, "rotations": 4, "drawn": 3}
    return FeatureMaps(pooled, images, **(options | changes))


def test_a_batch_holds_all_rotations_and_training_draws_some(pooled):
    images = pixels(5)
    maps = features(pooled, images)
    assert maps.shapes == [(64, 1, 1), (512, 1, 1), (64, 1, 1), (512, 1, 1)]
    every = [m.view(5, 4, -1) for m in maps.batch(torch.arange(5))]
    rows = torch.tensor([4, 1])
    drawn = maps.augmented(rows, torch.Generator().manual_seed(1))
    again = maps.augmented(rows, torch.Generator().manual_seed(1))
    other = maps.augmented(rows, torch.Generator().manual_seed(2))
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(drawn, other, strict=True))
    for number, row in enumerate([4, 4, 4, 1, 1, 1]):
        of_scales = [(every[s][row] == drawn[s][number].flatten()).all(dim=1) for s in range(4)]
        assert torch.stack(of_scales).all(dim=0).sum() == 1  # the same rotation in all scales, of the right image


def test_random_angles_take_the_place_of_the_fixed_ones_only_in_training(pooled):
    images, rows = pixels(3), torch.tensor([2, 0])
    maps = features(pooled, images, rotation=180.0)
    angles = (2 * torch.rand(6, generator=torch.Generator().manual_seed(1)) - 1) * 180
    expected = pooled(rotate(images[[2, 2, 2, 0, 0, 0]], angles.tolist()))
    for ours, theirs in zip(maps.augmented(rows, torch.Generator().manual_seed(1)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    fixed = features(pooled, images)
    for ours, theirs in zip(maps.batch(rows), fixed.batch(rows), strict=True):
        assert torch.equal(ours, theirs)


def test_passes_are_of_the_cache_key_and_plain_ones_change_no_key(compose):
    options = ("backbone=r18", "dataset.category=any")
    assert passes_of(compose(*options)).facts() == {}
    assert passes_of(compose(*options, "backbone.input_divisors=[1,2]")).facts()["divisors"] == (1, 2)
    assert passes_of(compose(*options, "model=differnet", "model.rotations=8")).facts() == {
        "divisors": (1,),
        "rotations": 8,
        "pooled": True,
    }


def test_halved_maps_are_means_of_3x3_positions_around_every_second_one(compose):
    halved = Backbone("resnet18.tv_in1k", [1, 4], weights="random", passes=Passes(halved=True))
    plain = Backbone("resnet18.tv_in1k", [1, 4], weights="random")
    for ours, maps in zip(halved(pixels()), plain(pixels()), strict=True):
        assert ours.shape[2:] == (maps.shape[2] // 2, maps.shape[3] // 2)
        torch.testing.assert_close(ours, F.pad(maps, [1] * 4).unfold(2, 3, 2).unfold(3, 3, 2).mean(dim=(4, 5)))
    config = compose("model=msflow", "backbone=r18", "dataset.category=any")
    assert passes_of(config) == Passes(halved=True)
    assert passes_of(config).facts()["halved"]


def test_alexnets_maps_are_torchvisions_at_448_224_and_112_px(compose, tmp_path):
    torch.manual_seed(5)
    model = AlexNet().eval()
    torch.save(model.state_dict(), tmp_path / "alexnet.pth")
    config = compose("experiment=differnet-alexnet", "dataset.category=any", f"backbone.weights={tmp_path}/alexnet.pth")
    assert config.dataset.image_size == 448
    backbone, images = build_backbone(config), pixels(1, 448)
    x = (images.float() / 255 - backbone.mean) / backbone.std
    with torch.no_grad():
        published = [model.features(F.interpolate(x, size=size)).mean(dim=(2, 3)) for size in (448, 224, 112)]
    for ours, theirs in zip(backbone(images), published, strict=True):
        assert ours.shape == (1, 256, 1, 1)
        torch.testing.assert_close(ours[:, :, 0, 0], theirs, rtol=1e-5, atol=1e-6)


def test_alexnet_follows_its_seed_and_refuses_images_that_are_too_small():
    a, b, c = (Backbone("alexnet.tv_in1k", [2], weights="random", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(a.model.features[0].weight, b.model.features[0].weight)
    assert not torch.equal(a.model.features[0].weight, c.model.features[0].weight)
    small = Backbone("alexnet.tv_in1k", [2], weights="random", passes=Passes((1, 2)))
    with pytest.raises(UserError, match=r"does not take images of 64 and 32 px \(.*\): set dataset.image_size=448"):
        small(pixels())
    with pytest.raises(UserError, match=r"has no stage of backbone.stages=\[3\]"):
        Backbone("alexnet.tv_in1k", [3], weights="random")


def test_b5s_maps_are_those_of_its_36th_block_at_three_sizes(compose):
    config = compose("experiment=csflow-b5", "dataset.category=any", "backbone.weights=random")
    assert (config.model.name, config.dataset.image_size) == ("csflow", 768)
    assert passes_of(config) == Passes((1, 2, 4))
    backbone, images = build_backbone(config), pixels(1, 128)
    blocks = [block for sequence in backbone.model.blocks for block in sequence]
    assert len(blocks) == 36
    maps = backbone(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(304, 4, 4), (304, 2, 2), (304, 1, 1)]
    x = backbone.model.bn1(backbone.model.conv_stem((images.float() / 255 - backbone.mean) / backbone.std))
    with torch.no_grad():
        for block in blocks:
            x = block(x)
    torch.testing.assert_close(maps[0], x, rtol=1e-4, atol=1e-5)


def test_blocks_between_the_stages_are_refused_where_a_model_has_none():
    with pytest.raises(UserError, match=r"has no blocks between its stages: set backbone.extra_blocks=false"):
        Backbone("resnet18.tv_in1k", [1], weights="random", extra_blocks=True)
