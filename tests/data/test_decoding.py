"""Images and masks as factories have them: each is read rightly, or refused in one sentence, by every command alike."""

import numpy as np
import pytest
import torch
from PIL import Image

from altub_exp.data import ImageSet, Sample, load_images, load_masks
from altub_exp.data.canvas import Canvas
from altub_exp.data.decoding import read_rgb
from altub_exp.data.images import findings
from altub_exp.detector.inference import Detector
from altub_exp.detector.predictions import Item, _read
from altub_exp.errors import UserError
from altub_exp.text import printable
from tests.data.pictures import MASKS, READ, REFUSED, M, S, colours


def set_of(*samples):
    return ImageSet("folder", "part", samples[0].image.parent, (), samples)


def by_id(cases):
    return [pytest.param(case, id=name) for name, case in cases.items()]


def reader(bits):
    """A detector without its parts, which reads images of 16 px."""
    return Detector(None, None, None, (), (0.0, 1.0), Canvas(16), "bilinear", torch.device("cpu"), bits)


@pytest.mark.parametrize("case", by_id(READ))
def test_images_are_read_alike_by_all_commands(case, tmp_path):
    file = case.write(tmp_path)
    read = np.asarray(read_rgb(file, case.bits))
    assert read.shape == case.pixels.shape
    assert np.abs(read.astype(int) - case.pixels).max() <= case.within
    assert findings(set_of(Sample(file, "good")), case.bits) == ([], [])
    (trained,) = load_images([Sample(file, "good")], Canvas(16), "bilinear", case.bits)
    (predicted,), errors = _read([Item(file, file)], reader(case.bits))
    assert errors == [""]
    assert trained.equal(predicted.pixels)


@pytest.mark.parametrize("case", by_id(REFUSED))
def test_images_are_refused_alike_by_all_commands_in_one_sentence(case, tmp_path):
    file = case.write(tmp_path)
    ((finding,), notes) = findings(set_of(Sample(file, "good")), case.bits)
    reason = finding.removeprefix(f"{printable(file)} cannot be read (").removesuffix(")")
    assert case.words in reason
    assert notes == []
    with pytest.raises(UserError) as refused:
        load_images([Sample(file, "good")], Canvas(16), "bilinear", case.bits)
    text = str(refused.value)
    assert text.startswith(f"1 image files cannot be read ({reason}): {printable(file)}. ")
    assert text.isprintable()
    _, (error,) = _read([Item(file, file)], reader(case.bits))
    assert error.startswith("cannot be read as an image")
    assert case.words == "damaged" or reason in error


def beside(mask):
    """An image of the mask's size, and the sample of both."""
    try:
        with Image.open(mask) as opened:
            size = opened.size
    except OSError:
        size = (S, S)
    Image.new("L", size, 77).save(mask.parent / "i.png")
    return Sample(mask.parent / "i.png", "hole", mask)


@pytest.mark.parametrize("case", by_id(MASKS))
def test_masks_are_read_or_refused_alike_by_check_and_train(case, tmp_path):
    sample = beside(case.write(tmp_path))
    refused, notes = findings(set_of(sample))
    assert notes == []
    if case.pixels is not None:
        assert refused == []
        (marked,) = load_masks([sample], Canvas(S))
        assert np.array_equal(marked.view(torch.uint8).numpy(), M.astype(np.uint8))  # the bytes of True are 1
        return
    (finding,) = refused
    assert case.words in finding
    with pytest.raises(UserError, match=r"^1 image files cannot be read") as caught:
        load_masks([sample], Canvas(S))
    assert case.words in str(caught.value)
    assert str(sample.mask) in str(caught.value)


def test_the_generated_files_are_as_many_as_documented():
    read = [*READ.values(), *MASKS.values()]
    assert (len(read) + len(REFUSED), sum(case.pixels is not None for case in read)) == (172, 107)  # docs/faults.md


def test_images_that_fail_for_several_reasons_are_one_sentence(tmp_path):
    samples = []
    for number, name in enumerate(("text", "NaN", "a link to nothing", "two pages of a tiff", "empty")):
        (tmp_path / str(number)).mkdir()
        samples.append(Sample(REFUSED[name].write(tmp_path / str(number)), "good"))
    with pytest.raises(UserError) as refused:
        load_images(samples, Canvas(8))
    text = str(refused.value)
    assert text.startswith(
        "5 image files cannot be read (damaged or truncated; NaN or infinite values; no such file or directory): "
    )
    assert "and 2 more. Replace" in text


@pytest.mark.parametrize("kind", ["check", "train"])
def test_empty_masks_are_a_warning_among_others_and_an_error_by_themselves(kind, tmp_path, caplog):
    samples = []
    for number, value in enumerate((255, 0)):
        (tmp_path / str(number)).mkdir()
        Image.new("L", (8, 8), value).save(tmp_path / str(number) / "m.png")
        samples.append(beside(tmp_path / str(number) / "m.png"))
    note, error = f"1 masks mark no defect: {samples[1].mask}", f"No mask marks a defect: {samples[1].mask}. Save them"
    if kind == "check":
        assert findings(set_of(*samples)) == ([], [note])
        ((refused,), notes) = findings(set_of(samples[1]))
        assert refused.startswith(error)
        assert notes == []
    else:
        assert load_masks(samples, Canvas(4)).sum((1, 2)).tolist() == [16, 0]
        assert note in caplog.text
        with pytest.raises(UserError, match=r"^No mask marks a defect: .*m\.png"):
            load_masks(samples[1:], Canvas(4))


def test_a_scratch_of_one_pixel_is_kept_where_resizing_would_drop_it(tmp_path, caplog):
    pixels = np.zeros((960, 480), dtype=np.uint8)
    pixels[100:400, 241] = 255
    Image.fromarray(pixels).save(tmp_path / "m.png")
    (mask,) = load_masks([beside(tmp_path / "m.png")], Canvas(64))
    scratch = [[row, 241 * 64 // 480] for row in range(100 * 64 // 960, 399 * 64 // 960 + 1)]
    assert np.argwhere(mask.numpy()).tolist() == scratch
    assert "thinner than a pixel" in caplog.text

    caplog.clear()
    pixels[500:600, 200:300] = 255
    Image.fromarray(pixels).save(tmp_path / "m.png")
    (mask,) = load_masks([beside(tmp_path / "m.png")], Canvas(64))
    expected = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)) > 127
    assert not expected[tuple(np.transpose(scratch))].any()
    expected[tuple(np.transpose(scratch))] = True
    assert np.array_equal(mask.numpy(), expected)
    assert "thinner than a pixel" in caplog.text


def test_a_mask_that_loses_no_defect_by_resizing_is_only_resized(tmp_path, caplog):
    pixels = np.zeros((960, 480), dtype=np.uint8)
    pixels[500:600, 200:300] = 255
    pixels[610, 210] = 255  # a fragment beside a defect that stays
    Image.fromarray(pixels).save(tmp_path / "m.png")
    (mask,) = load_masks([beside(tmp_path / "m.png")], Canvas(64))
    expected = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
    assert np.array_equal(mask.numpy(), np.asarray(expected) > 127)
    assert caplog.text == ""


def test_check_names_a_mask_of_another_size_beside_other_findings(tmp_path):
    Image.new("L", (4, 3), 255).save(tmp_path / "m.png")
    Image.new("L", (3, 4)).save(tmp_path / "i.png")
    (tmp_path / "j.png").write_bytes(b"no image")
    refused, _ = findings(
        set_of(Sample(tmp_path / "i.png", "hole", tmp_path / "m.png"), Sample(tmp_path / "j.png", "good"))
    )
    assert len(refused) == 2
    assert "j.png cannot be read (damaged" in refused[0]
    assert "m.png has 4×3 pixels, its image" in refused[1]


def test_the_mask_of_a_turned_image_fits_it_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("png", "tif"):
        Image.fromarray(colours(S, 16)).save(tmp_path / f"i.{form}", exif=exif)
        Image.fromarray(np.full((16, S), 255, dtype=np.uint8)).save(tmp_path / "m.png")
        assert load_masks([Sample(tmp_path / f"i.{form}", "hole", tmp_path / "m.png")], Canvas(8)).all()
