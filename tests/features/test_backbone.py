"""Frozen backbones: the table's shapes, weights from files, normalisation, and what is refused."""

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from altub_exp.data.images import rotate
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.features.extraction import batch
from altub_exp.features.maps import FeatureMaps

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pixels(n=2, size=64):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def random_resnet(seed=0):
    torch.manual_seed(seed)
    return timm.create_model("resnet18.tv_in1k", pretrained=False)


@pytest.mark.parametrize(
    ("key", "name", "shapes"),
    [
        ("r18", "resnet18.tv_in1k", [(64, 64, 64), (128, 32, 32), (256, 16, 16)]),
        ("wrn50", "wide_resnet50_2.racm_in1k", [(256, 64, 64), (512, 32, 32), (1024, 16, 16)]),
        ("deit", "deit_base_distilled_patch16_384.fb_in1k", [(768, 24, 24)]),
        pytest.param("cait", "cait_m48_448.fb_dist_in1k", [(768, 28, 28)], marks=pytest.mark.slow),
        ("dinov2_s", "vit_small_patch14_dinov2.lvd142m", [(384, 37, 37)]),
        pytest.param("dinov2_b", "vit_base_patch14_dinov2.lvd142m", [(768, 37, 37)], marks=pytest.mark.slow),
        ("dinov3_s", "vit_small_patch16_dinov3.lvd1689m", [(384, 32, 32)]),
        pytest.param("dinov3_b", "vit_base_patch16_dinov3.lvd1689m", [(768, 32, 32)], marks=pytest.mark.slow),
        ("mobilenetv2", "mobilenetv2_100.ra_in1k", [(24, 64, 64), (32, 32, 32), (96, 16, 16)]),
        ("wrn50_tv model=cflow", "wide_resnet50_2.tv_in1k", [(512, 32, 32), (1024, 16, 16), (2048, 8, 8)]),
        ("mobilenetv2 model=cflow", "mobilenetv2_100.ra_in1k", [(32, 32, 32), (96, 16, 16), (320, 8, 8)]),
    ],
)
def test_backbones_of_the_table(compose, key, name, shapes):
    """Method, sections 1 and 3: weights tag, input size, maps, ImageNet's mean and sd."""
    config = compose(*f"backbone={key}".split(), "dataset.category=any")
    assert config.backbone.name == name
    assert config.backbone.weights == "pretrained"
    backbone = Backbone(
        name, config.backbone.stages, weights="random", final_norm=config.model.feature_norm == "pretrained"
    )
    maps = backbone(pixels(1, config.dataset.image_size))
    assert [tuple(m.shape[1:]) for m in maps] == shapes
    torch.testing.assert_close(backbone.mean.flatten(), torch.tensor(IMAGENET[0]))
    torch.testing.assert_close(backbone.std.flatten(), torch.tensor(IMAGENET[1]))


def test_resnet_maps_are_layers_1_to_3():
    backbone = Backbone("resnet18.tv_in1k", [1, 2, 3], weights="random", seed=4)
    torch.manual_seed(4)
    model = timm.create_model("resnet18.tv_in1k", pretrained=False, num_classes=0).eval()
    x = (pixels().float() / 255 - backbone.mean) / backbone.std
    with torch.no_grad():
        x = model.maxpool(model.act1(model.bn1(model.conv1(x))))
        for layer, ours in zip((model.layer1, model.layer2, model.layer3), backbone(pixels()), strict=True):
            x = layer(x)
            torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)


def test_frozen_whatever_happens_around_it():
    backbone = Backbone("resnet18.tv_in1k", [1], weights="random")
    backbone.train()
    assert not backbone.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_equal_the_model_they_come_from(tmp_path, suffix):
    model, file = random_resnet(9), tmp_path / f"weights{suffix}"
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    if suffix == ".pth":
        torch.save({"state_dict": state}, file)
    else:
        save_file(state, file, metadata={"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"})
    backbone = Backbone("resnet18.tv_in1k", [1, 2, 3], weights=str(file))
    assert torch.equal(backbone.model.layer3[0].conv1.weight, model.layer3[0].conv1.weight)
    expected = IMAGENET if suffix == ".pth" else ([0.5] * 3, [0.25] * 3)
    torch.testing.assert_close(backbone.mean.flatten(), torch.tensor(expected[0]))
    torch.testing.assert_close(backbone.std.flatten(), torch.tensor(expected[1]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), "lacks 1 keys (layer2.0.conv1.weight)"),
        (lambda s: s.update({"layer1.0.conv1.weight": torch.zeros(3)}), "another shape for 1 keys"),
        (lambda s: s.update({"layer1.0.conv9.weight": torch.zeros(3)}), "unknown 1 keys (layer1.0.conv9.weight)"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(tmp_path, change, problem):
    state = dict(random_resnet().state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        Backbone("resnet18.tv_in1k", [1, 2, 3], weights=str(tmp_path / "w.pth"))
    assert problem in str(caught.value)


def test_keys_of_dropped_stages_and_heads_do_not_matter(tmp_path):
    state = {k: v for k, v in random_resnet().state_dict().items() if not k.startswith(("layer4", "fc"))}
    torch.save(state | {"fc.bias": torch.zeros(7)}, tmp_path / "w.pth")
    Backbone("resnet18.tv_in1k", [1, 2, 3], weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [b"", b"not weights"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_weights_file_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights"):
        Backbone("resnet18.tv_in1k", [1], weights=str(tmp_path / name))


def test_any_timm_model_gives_its_stages():
    backbone = Backbone("convnext_atto", [0, 1], weights="random")
    assert [tuple(m.shape[1:]) for m in backbone(pixels())] == [(40, 16, 16), (80, 8, 8)]


def test_random_weights_follow_their_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    a, b, c = (Backbone("resnet18.tv_in1k", [1], weights="random", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a.model.conv1.weight, b.model.conv1.weight)
    assert not torch.equal(a.model.conv1.weight, c.model.conv1.weight)


def test_the_real_mobilenet_weights_equal_timms_own_features(shared):
    file = shared / "weights" / "mobilenetv2_100.tfslim_in1k.safetensors"
    backbone = Backbone("mobilenetv2_100.ra_in1k", [1, 2, 3], weights=str(file))
    model = timm.create_model(
        "mobilenetv2_100", pretrained=False, pad_type="same", features_only=True, out_indices=(1, 2, 3)
    )
    model.load_state_dict(load_file(file), strict=False)
    with torch.no_grad():
        expected = model.eval()((pixels().float() / 255 - 0.5) / 0.5)
    for ours, theirs in zip(backbone(pixels()), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_kept_maps_equal_recomputed_ones():
    backbone, images = Backbone("resnet18.tv_in1k", [1, 2], weights="random"), pixels(7)
    options = {"batch_size": 3, "device": torch.device("cpu")}
    kept = FeatureMaps(backbone, images, memory_gb=1.0, **options)
    recomputed = FeatureMaps(backbone, images, memory_gb=0.0, **options)
    in_part = FeatureMaps(backbone, images, memory_gb=kept.gib / 2, **options)
    assert (kept.kept, recomputed.kept, in_part.kept) == (True, False, False)
    assert (kept.place, in_part.place) == (
        "kept in memory",
        "of which those of 4 images are recomputed in every epoch",
    )
    assert kept.shapes == [(64, 16, 16), (128, 8, 8)]
    assert kept.gib == pytest.approx(7 * 4 * (64 * 256 + 128 * 64) / 2**30)
    for rows in (torch.tensor([5, 0, 3]), torch.tensor([6])):
        for a, b, c in zip(kept.batch(rows), recomputed.batch(rows), in_part.batch(rows), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a, c)
            assert not b.is_inference()


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "mobilenetv2_100.ra_in1k"])
def test_the_maps_of_an_image_depend_on_neither_its_neighbours_nor_the_number_of_threads(name):
    """At 96 px, MobileNetV2's do when images share a batch, or threads an image."""
    backbone, images = Backbone(name, [1, 2, 3], weights="random"), pixels(6, 96)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for order in (torch.arange(6), torch.tensor([4, 1])):
                features = FeatureMaps(backbone, images[order], batch_size=6, device=torch.device("cpu"), memory_gb=1.0)
                found.append([maps[order.tolist().index(4)] for maps in features.batch(torch.arange(len(order)))])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_turned_training_images_have_features_of_their_own_drawn_from_the_generator():
    backbone, images = Backbone("resnet18.tv_in1k", [1, 2], weights="random"), pixels(5)
    features = FeatureMaps(backbone, images, memory_gb=1.0, batch_size=2, device=torch.device("cpu"), rotation=5.0)
    assert not features.kept
    rows = torch.tensor([3, 1])

    def drawn(seed):
        return features.augmented(rows, torch.Generator().manual_seed(seed))[0]

    angles = (2 * torch.rand(2, generator=torch.Generator().manual_seed(1)) - 1) * 5.0
    torch.testing.assert_close(drawn(1), backbone(rotate(images[rows], angles.tolist()))[0])
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(1), features.batch(rows)[0])
    assert [len(rows) for rows in features.batches(drop_last=True)] == [2, 2]


def test_large_images_go_through_the_backbone_a_few_at_a_time(monkeypatch):
    """The size of a part bounds the memory and changes nothing."""
    backbone, images = Backbone("resnet18.tv_in1k", [1, 2], weights="random"), pixels(7)
    whole = batch(backbone, images, torch.device("cpu"))
    seen = []
    backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("altub_exp.features.extraction.PIXELS_AT_ONCE", 3 * 64 * 64)
    for a, b in zip(batch(backbone, images, torch.device("cpu")), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert seen == [3, 3, 1]
