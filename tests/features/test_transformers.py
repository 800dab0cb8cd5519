"""Transformers' feature maps against timm's own and against a forward pass written out from the weights."""

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from tests.commandline import TINY, folders, journal, run

DEIT, CAIT = "deit_tiny_distilled_patch16_224.fb_in1k", "cait_xxs24_224.fb_dist_in1k"
BLOCK = 2  # the last one whose tokens are read
HEADS = {DEIT: 3, CAIT: 4}


def backbone_of(name):
    """With weights away from their start, where biases are zero and CaiT's layer scale is 1e-5."""
    backbone = Backbone(name, [BLOCK], weights="random", final_norm=True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return backbone


def pixels(count=2, size=224):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def weights_of(backbone):
    return {name: value.double().numpy() for name, value in backbone.model.state_dict().items()}


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w, name, x):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w, name, x, heads, talking):
    """softmax(q kᵀ / √d) v; CaiT mixes the heads by a matrix before and after the softmax."""
    tokens, width = x.shape
    q, k, v = linear(w, f"{name}.qkv", x).reshape(tokens, 3, heads, width // heads).transpose(1, 2, 0, 3)
    logits = q @ k.transpose(0, 2, 1) / np.sqrt(width // heads)  # [heads, tokens, tokens]
    if talking:
        logits = np.einsum("oh,hij->oij", w[f"{name}.proj_l.weight"], logits) + w[f"{name}.proj_l.bias"][:, None, None]
    weights = softmax(logits, axis=-1)
    if talking:
        weights = (
            np.einsum("oh,hij->oij", w[f"{name}.proj_w.weight"], weights) + w[f"{name}.proj_w.bias"][:, None, None]
        )
    return linear(w, f"{name}.proj", (weights @ v).transpose(1, 0, 2).reshape(tokens, width))


def mlp(w, name, x):
    hidden = linear(w, f"{name}.fc1", x)
    return linear(w, f"{name}.fc2", hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))))


def patches(w, image):
    """The embedded 16 × 16 patches of an image [3, S, S], row by row."""
    side = image.shape[1] // 16
    cut = image.reshape(3, side, 16, side, 16).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    return (
        cut @ w["patch_embed.proj.weight"].reshape(len(w["patch_embed.proj.bias"]), -1).T + w["patch_embed.proj.bias"]
    )


def written_out(name, w, image):
    """The map [C, 14, 14] of one normalised image, float64."""
    tokens = patches(w, image)
    if name == DEIT:
        tokens = np.concatenate([w["cls_token"][0], w["dist_token"][0], tokens])
    tokens = tokens + w["pos_embed"][0]
    for number in range(BLOCK + 1):
        block = f"blocks.{number}"
        scale_1, scale_2 = w.get(f"{block}.gamma_1", 1.0), w.get(f"{block}.gamma_2", 1.0)
        seen = attention(w, f"{block}.attn", layer_norm(w, f"{block}.norm1", tokens), HEADS[name], name == CAIT)
        tokens = tokens + scale_1 * seen
        tokens = tokens + scale_2 * mlp(w, f"{block}.mlp", layer_norm(w, f"{block}.norm2", tokens))
    tokens = layer_norm(w, "norm", tokens)
    return tokens[2 if name == DEIT else 0 :].T.reshape(-1, 14, 14)


@pytest.mark.parametrize("name", [DEIT, CAIT])
def test_maps_equal_the_forward_pass_written_out(name):
    backbone = backbone_of(name)
    (maps,) = backbone(pixels())
    normalised = ((pixels().double() / 255 - backbone.mean) / backbone.std).numpy()
    for image, ours in zip(normalised, maps, strict=True):
        expected = written_out(name, weights_of(backbone), image)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", [DEIT, CAIT])
def test_maps_are_bit_for_bit_timms_own(name):
    backbone = backbone_of(name)
    x = (pixels().float() / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        (expected,) = backbone.model.forward_intermediates(x, indices=[BLOCK], norm=True, intermediates_only=True)
    assert torch.equal(backbone(pixels())[0], expected)


@pytest.mark.parametrize("name", [DEIT, CAIT])
def test_a_position_of_the_map_is_that_of_its_patch(name):
    """Without attention nothing leaves its patch: what changes in the map is where the image changed."""
    backbone = backbone_of(name)
    with torch.no_grad():
        for block in backbone.model.blocks:
            block.attn.proj.weight.zero_()
    images = pixels(1)
    changed = images.clone()
    changed[:, :, 3 * 16 : 4 * 16, 9 * 16 : 10 * 16] = 255 - changed[:, :, 3 * 16 : 4 * 16, 9 * 16 : 10 * 16]
    difference = (backbone(images)[0] - backbone(changed)[0]).abs().sum(dim=1)[0]
    assert difference.nonzero().tolist() == [[3, 9]]


@pytest.mark.parametrize("size", [100, 192, 448])
@pytest.mark.parametrize("name", [DEIT, CAIT])
def test_a_size_that_does_not_fit_is_one_sentence(name, size):
    with pytest.raises(
        UserError, match=rf"does not take images of {size} px .*: set dataset\.image_size=224\.$"
    ) as error:
        backbone_of(name)(pixels(1, size))
    assert "\n" not in str(error.value)


def test_what_lies_behind_the_last_block_is_dropped():
    whole = sum(p.numel() for p in Backbone(CAIT, [23], weights="random", final_norm=True).parameters())
    assert sum(p.numel() for p in backbone_of(CAIT).parameters()) < whole / 6


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "channels"), [("deit", 768), ("cait", 768)])
def test_the_papers_transformers_train_end_to_end(tmp_path, backbone, channels):
    arguments = [one for one in TINY if not one.startswith(("experiment", "dataset.image_size", "model.steps"))]
    _, stderr = run(
        tmp_path,
        *arguments,
        f"backbone={backbone}",
        "backbone.weights=random",
        "dataset=synthetic",
        "dataset.train_images=3",
        "dataset.good_images=3",
        "dataset.defect_images=1",
        "train.epochs=1",
        "train.batch_size=2",
        "eval.ks_every=1",
        "threads=2",
    )
    (row,) = journal(folders(tmp_path)[0])
    assert row["ks_channels"] == channels
    assert 0 < row["pixel_auroc"] < 1
    assert "finished" in stderr


@pytest.mark.parametrize("backbone", ["deit", "cait"])
def test_another_size_than_the_papers_fails_before_any_training(tmp_path, backbone):
    arguments = [one for one in TINY if not one.startswith(("dataset.image_size", "model.steps"))]
    if backbone == "cait":
        arguments.append("backbone.name=cait_xxs24_224")  # as the large one, sooner built
    _, stderr = run(
        tmp_path, *arguments, f"backbone={backbone}", "backbone.stages=[2]", "dataset.image_size=100", expect=1
    )
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "does not take images of 100 px" in error
    assert "set dataset.image_size=" in error
    assert not (tmp_path / "runs").exists()
