"""Decoding and resizing."""

import numpy as np
import pytest
import torch
from PIL import Image

from altub_exp.data import Sample, load_images, load_masks
from altub_exp.data.canvas import Canvas
from altub_exp.data.images import rotate
from altub_exp.errors import UserError


def picture(height=37, width=53):
    y, x = np.mgrid[:height, :width]
    return np.stack([(3 * x + 2 * y) % 256, (5 * y) % 256, (x * y) % 256], axis=2).astype(np.uint8)


def one(file, size=16, interpolation="bilinear"):
    return load_images([Sample(file, "good")], Canvas(size), interpolation)[0]


def two_taps(pixels, size):
    """Bilinear resize without antialias as OpenCV defines it: half-pixel centres, two taps, edges repeated."""
    result = pixels.astype(np.float64)
    for axis in (0, 1):
        n = result.shape[axis]
        position = ((np.arange(size) + 0.5) * n / size - 0.5).clip(0, n - 1)
        low = np.floor(position).astype(int)
        weight = (position - low).reshape([-1 if k == axis else 1 for k in range(3)])
        upper = np.take(result, np.minimum(low + 1, n - 1), axis=axis)
        result = np.take(result, low, axis=axis) * (1 - weight) + upper * weight
    return result


@pytest.mark.parametrize("size", [16, 50, 64])
def test_bilinear_takes_two_taps_and_does_not_keep_the_aspect(tmp_path, size):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    ours = one(tmp_path / "a.png", size)
    assert (ours.dtype, tuple(ours.shape)) == (torch.uint8, (3, size, size))
    expected = two_taps(picture(), size).transpose(2, 0, 1)
    assert np.abs(ours.numpy() - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("interpolation", "filter_"), [("antialias", Image.Resampling.BILINEAR), ("lanczos", Image.Resampling.LANCZOS)]
)
def test_pillows_filters(tmp_path, interpolation, filter_):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(picture()).resize((16, 16), filter_)).transpose(2, 0, 1)
    assert np.array_equal(one(tmp_path / "a.png", 16, interpolation).numpy(), expected)
    assert not np.array_equal(one(tmp_path / "a.png", 16).numpy(), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(picture()).convert(mode).save(file)
    expected = np.asarray(Image.open(file).convert("RGB"))
    assert np.abs(one(file, 64).numpy() - two_taps(expected, 64).transpose(2, 0, 1)).max() <= 0.5 + 1e-3


def test_sixteen_bit_gray_is_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    ours = one(tmp_path / "a.png", 64)
    assert np.array_equal(ours[0].numpy(), (values / 257).round())
    assert ours.max() == 255


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(one(tmp_path / "a.png", 32)[0].numpy(), np.rot90(picture(32, 32)[..., 0], -1))


def test_order_is_kept(tmp_path):
    samples = []
    for value in range(20):
        Image.new("L", (8, 8), value).save(tmp_path / f"{value}.png")
        samples.append(Sample(tmp_path / f"{value}.png", "good"))
    assert load_images(samples, Canvas(8))[:, 0, 0, 0].tolist() == list(range(20))


def test_all_damaged_files_are_named_in_one_sentence(tmp_path):
    samples = []
    for number in range(6):
        file = tmp_path / f"{number}.png"
        Image.fromarray(picture(200, 200)).save(file)
        if number:
            file.write_bytes(file.read_bytes()[: 1000 if number > 1 else 0])
        samples.append(Sample(file, "good"))
    with pytest.raises(UserError) as caught:
        load_images(samples, Canvas(16))
    text = str(caught.value)
    assert text.startswith("5 image files cannot be read")
    assert "1.png" in text
    assert "and 2 more" in text
    assert "\n" not in text


def mask_of(tmp_path, values, size, image_size=None):
    values = np.asarray(values, dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    Image.new("L", image_size or values.shape[::-1]).save(tmp_path / "i.png")
    return load_masks([Sample(tmp_path / "i.png", "hole", tmp_path / "m.png")], Canvas(size))[0]


def test_more_than_half_is_defect(tmp_path):
    mask = mask_of(tmp_path, [[0, 127], [128, 255]], 2)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[False, False], [True, True]]


def palette(ids):
    """A palette image in which the ids 0 and 1 have the same colour."""
    image = Image.fromarray(ids)
    image.putpalette([0, 0, 0, 0, 0, 0, 200, 10, 10, 255, 255, 255])
    return image


@pytest.mark.parametrize(
    "encode",
    [
        Image.fromarray,
        palette,
        lambda ids: Image.fromarray(ids.astype(np.uint16)),
        lambda ids: Image.fromarray(np.dstack([ids, 0 * ids, 0 * ids])),
        lambda ids: Image.fromarray(np.dstack([ids, 0 * ids, 0 * ids, 255 + 0 * ids])),
    ],
    ids=["gray", "palette", "16 bits", "RGB", "RGBA"],
)
def test_of_class_ids_all_but_0_are_defects(tmp_path, encode):
    encode(np.array([[0, 1], [2, 3]], dtype=np.uint8)).save(tmp_path / "m.png")
    Image.new("L", (2, 2)).save(tmp_path / "i.png")
    sample = Sample(tmp_path / "i.png", "anomaly", tmp_path / "m.png", class_ids=True)
    assert load_masks([sample], Canvas(2))[0].tolist() == [[False, True], [True, True]]


def test_masks_are_resized_by_the_nearest_pixel(tmp_path):
    values = (np.random.default_rng(0).random((40, 60)) > 0.5) * 255
    mask = mask_of(tmp_path, values, 20)
    rows, columns = ((np.arange(20) + 0.5) * 2).astype(int), ((np.arange(20) + 0.5) * 3).astype(int)
    assert np.array_equal(mask.numpy(), values[rows][:, columns] > 127)


def test_good_images_have_empty_masks(tmp_path):
    assert not load_masks([Sample(tmp_path / "never-opened.png", "good")], Canvas(4)).any()


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"m\.png has 2×2 pixels, its image .* has 3×2: a mask must fit"):
        mask_of(tmp_path, [[0, 1], [1, 0]], 4, image_size=(3, 2))


def test_a_truncated_mask_is_named(tmp_path):
    Image.fromarray(picture(100, 100)).save(tmp_path / "m.png")
    (tmp_path / "m.png").write_bytes((tmp_path / "m.png").read_bytes()[:500])
    Image.new("L", (100, 100)).save(tmp_path / "i.png")
    with pytest.raises(UserError, match=r"cannot be read .*m\.png"):
        load_masks([Sample(tmp_path / "i.png", "hole", tmp_path / "m.png")], Canvas(4))


def test_the_real_hazelnuts_one_of_them_not_square(shared):
    from altub_exp.data import mvtec

    found = mvtec.LAYOUT.read(shared / "data/other", "hazelnut_toy")
    assert {Image.open(sample.image).size for sample in found.train} > {(512, 512)}
    assert load_images(found.train, Canvas(64)).shape == (28, 3, 64, 64)
    assert 0.001 < load_masks(found.test, Canvas(64)).float().mean() < 0.5


def test_rotation_is_torchvisions_default():
    """RandomRotation(5) of CFLOW-AD: nearest pixel, black beyond the edge, about the centre."""
    from torchvision.transforms.functional import rotate as torchvisions

    images = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    for turned, image, angle in zip(rotate(images, [4.0, -3.5]), images, [4.0, -3.5], strict=True):
        picture_ = Image.fromarray(image.permute(1, 2, 0).numpy())
        assert np.array_equal(turned.permute(1, 2, 0).numpy(), np.asarray(torchvisions(picture_, angle)))
        assert not torch.equal(turned, image)
