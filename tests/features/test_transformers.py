"""Transformers' feature maps against timm's own and against a forward pass written out from the weights."""

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from tests.commandline import TINY, folders, journal, run

DEIT, CAIT = "deit_tiny_distilled_patch16_224.fb_in1k", "cait_xxs24_224.fb_dist_in1k"
DINOV2, DINOV3 = "vit_small_patch14_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"
BLOCK = 2  # the last one whose tokens are read
HEADS = {DEIT: 3, CAIT: 4, DINOV2: 6, DINOV3: 6}
SIZES = {DEIT: 224, CAIT: 224, DINOV2: 518, DINOV3: 96}
PATCH = {DEIT: 16, CAIT: 16, DINOV2: 14, DINOV3: 16}
PREFIX = {DEIT: ["cls_token", "dist_token"], CAIT: [], DINOV2: ["cls_token"], DINOV3: ["cls_token", "reg_token"]}
"""Tokens that are no patches: of DINOv3, the class token and four registers."""


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
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def layer_norm(w, name, x, eps=1e-6):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def rotated(x, side):
    """DINOv3's rotary position embedding of the last side² tokens of x [heads, tokens, D] (arXiv 2508.10104).

    A position is the centre (row, column) of its patch in [-1, 1]; each coordinate gives D/4 angles, whose periods go
    from 1 to almost 100, and number i of a half of D turns together with number i of the other half.
    """
    width = x.shape[2]
    centres = (2 * np.arange(side) + 1) / side - 1
    positions = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    angles = (2 * np.pi * positions / 100 ** (4 * np.arange(width // 4) / width)).reshape(side**2, width // 2)
    turned = x.copy()
    first, second = x[:, -(side**2) :, : width // 2], x[:, -(side**2) :, width // 2 :]
    turned[:, -(side**2) :, : width // 2] = first * np.cos(angles) - second * np.sin(angles)
    turned[:, -(side**2) :, width // 2 :] = second * np.cos(angles) + first * np.sin(angles)
    return turned


def attention(w, name, x, heads, talking, rotary=None):
    """softmax(q kᵀ / √d) v; CaiT mixes the heads by a matrix before and after the softmax; ``rotary`` turns q and k."""
    tokens, width = x.shape
    q, k, v = linear(w, f"{name}.qkv", x).reshape(tokens, 3, heads, width // heads).transpose(1, 2, 0, 3)
    if rotary is not None:
        q, k = rotated(q, rotary), rotated(k, rotary)
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


def patches(w, image, patch):
    """The embedded patches of an image [3, S, S], row by row."""
    side = image.shape[1] // patch
    cut = image.reshape(3, side, patch, side, patch).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    return (
        cut @ w["patch_embed.proj.weight"].reshape(len(w["patch_embed.proj.bias"]), -1).T + w["patch_embed.proj.bias"]
    )


def written_out(name, w, image):
    """The map [C, S / patch, S / patch] of one normalised image, float64."""
    side, eps = image.shape[1] // PATCH[name], 1e-5 if name == DINOV3 else 1e-6
    tokens = np.concatenate([*(w[token][0] for token in PREFIX[name]), patches(w, image, PATCH[name])])
    tokens = tokens + (0 if name == DINOV3 else w["pos_embed"][0])
    for number in range(BLOCK + 1):
        block = f"blocks.{number}"
        scale_1, scale_2 = (w.get(f"{block}.gamma_{n}", w.get(f"{block}.ls{n}.gamma", 1.0)) for n in (1, 2))
        normed, rotary = layer_norm(w, f"{block}.norm1", tokens, eps), side if name == DINOV3 else None
        tokens = tokens + scale_1 * attention(w, f"{block}.attn", normed, HEADS[name], name == CAIT, rotary)
        tokens = tokens + scale_2 * mlp(w, f"{block}.mlp", layer_norm(w, f"{block}.norm2", tokens, eps))
    return layer_norm(w, "norm", tokens, eps)[-(side**2) :].T.reshape(-1, side, side)


@pytest.mark.parametrize("name", [DEIT, CAIT, pytest.param(DINOV2, marks=pytest.mark.slow), DINOV3])
def test_maps_equal_the_forward_pass_written_out(name):
    backbone, images = backbone_of(name), pixels(size=SIZES[name])
    (maps,) = backbone(images)
    normalised = ((images.double() / 255 - backbone.mean) / backbone.std).numpy()
    for image, ours in zip(normalised, maps, strict=True):
        expected = written_out(name, weights_of(backbone), image)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", [DEIT, CAIT, DINOV3])
def test_maps_are_bit_for_bit_timms_own(name):
    backbone, images = backbone_of(name), pixels(size=SIZES[name])
    x = (images.float() / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        (expected,) = backbone.model.forward_intermediates(x, indices=[BLOCK], norm=True, intermediates_only=True)
    assert torch.equal(backbone(images)[0], expected)


@pytest.mark.parametrize("name", [DEIT, CAIT, DINOV2, DINOV3])
def test_a_position_of_the_map_is_that_of_its_patch(name):
    """Without attention nothing leaves its patch: what changes in the map is where the image changed."""
    backbone, patch, column = backbone_of(name), PATCH[name], 9 if name != DINOV3 else 5
    with torch.no_grad():
        for block in backbone.model.blocks:
            block.attn.proj.weight.zero_()
    images = pixels(1, SIZES[name])
    changed = images.clone()
    place = np.s_[:, :, 3 * patch : 4 * patch, column * patch : (column + 1) * patch]
    changed[place] = 255 - changed[place]
    difference = (backbone(images)[0] - backbone(changed)[0]).abs().sum(dim=1)[0]
    assert difference.nonzero().tolist() == [[3, column]]


@pytest.mark.parametrize("size", [100, 192, 448])
@pytest.mark.parametrize("name", [DEIT, CAIT])
def test_a_size_that_does_not_fit_is_one_sentence(name, size):
    with pytest.raises(
        UserError, match=rf"does not take images of {size} px .*: set dataset\.image_size=224\.$"
    ) as error:
        backbone_of(name)(pixels(1, size))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "size", "own"), [(DINOV2, 448, 518), (DINOV2, 98, 518), (DINOV3, 100, 256)])
def test_sizes_that_dinov2_and_dinov3_refuse(name, size, own):
    """DINOv2's positional embeddings are not resampled; DINOv3 takes multiples of its patch."""
    with pytest.raises(UserError, match=rf"does not take images of {size} px .*: set dataset\.image_size={own}\.$"):
        backbone_of(name)(pixels(1, size))


def test_what_lies_behind_the_last_block_is_dropped():
    whole = sum(p.numel() for p in Backbone(CAIT, [23], weights="random", final_norm=True).parameters())
    assert sum(p.numel() for p in backbone_of(CAIT).parameters()) < whole / 6


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "channels"), [("deit", 768), ("cait", 768), ("dinov2_s", 384), ("dinov3_s", 384)])
def test_transformers_train_end_to_end(tmp_path, backbone, channels):
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
