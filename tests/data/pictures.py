"""Image files as factories have them, with the pixels to be read, or the reason of the refusal."""

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

S = 24


def colours(height=S, width=S):
    y, x = np.mgrid[:height, :width]
    return np.stack([(11 * x + 2 * y) % 256, (5 * y + x) % 256, (x * y + 7) % 256], axis=2).astype(np.uint8)


def grey(largest=255):
    """S × S values from 0 to ``largest``, both included."""
    return np.linspace(0, largest, S * S).round().astype(np.int64).reshape(S, S)


def rgb(values):
    return np.repeat(np.asarray(values)[..., None], 3, axis=2)


def saved(pixels, form, **options):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, form, **options)
    return file.getvalue()


def png(values, bits, colour, size=None):
    """A PNG of any bit depth, which Pillow does not write: ``values`` [H, W, channels]; ``size`` is the header's."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    if bits == 16:
        packed = [row.astype(">u2").tobytes() for row in rows]
    else:
        digits = (rows[..., None] >> np.arange(bits)[::-1]) & 1
        packed = [np.packbits(row).tobytes() for row in digits.reshape(height, -1).astype(np.uint8)]
    header = struct.pack(">IIBBBBB", *(size or (width, height)), bits, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in packed))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@dataclass
class Case:
    """A file.

    Attributes:
        name: its name.
        content: its bytes, or a function that makes it.
        pixels: what is read from it, [H, W, 3]; None if it is refused.
        words: part of the reason of the refusal.
        bits: ``dataset.bit_depth``.
        within: largest difference of a pixel, for lossy formats.
    """

    name: str | bytes
    content: Any
    pixels: Any = None
    words: str = ""
    bits: int | None = None
    within: int = 0

    def write(self, folder: Path) -> Path:
        file = folder / os.fsdecode(self.name)
        if callable(self.content):
            self.content(file)
        else:
            file.write_bytes(self.content)
        return file


def plain(name=None):
    return Case(name or "a.png", saved(colours(), "PNG"), colours())


READ = {
    "png": plain(),
    "upper case suffix": plain("A.PNG"),
    "bmp": Case("a.bmp", saved(colours(), "BMP"), colours()),
    "dib": Case("a.dib", saved(colours(), "DIB"), colours()),
    "tif": Case("a.tif", saved(colours(), "TIFF"), colours()),
    "tiff, LZW": Case("a.tiff", saved(colours(), "TIFF", compression="tiff_lzw"), colours()),
    "tiff, deflate": Case("a.tiff", saved(colours(), "TIFF", compression="tiff_adobe_deflate"), colours()),
    "webp": Case("a.webp", saved(colours(), "WEBP", lossless=True), colours()),
    "ppm": Case("a.ppm", saved(colours(), "PPM"), colours()),
    "pnm": Case("a.pnm", saved(colours(), "PPM"), colours()),
    "pgm": Case("a.pgm", saved(grey().astype(np.uint8), "PPM"), rgb(grey())),
    "pgm of 12 bits": Case("a.pgm", b"P5 2 1 4095\n\0\0\x0f\xff", rgb([[0, 255]])),
    "pbm": Case("a.pbm", b"P1\n2 2\n0 1\n1 0\n", rgb([[255, 0], [0, 255]])),
    "gif": Case("a.gif", saved(grey().astype(np.uint8), "GIF"), rgb(grey())),
    "a suffix that does not fit": Case("a.jpg", saved(colours(), "PNG"), colours()),
    **{
        f"{suffix}": Case(
            f"a{suffix}", saved(np.full((S, S, 3), 90, np.uint8), "JPEG", quality=100), np.full((S, S, 3), 90), within=1
        )
        for suffix in (".jpg", ".jpeg", ".jpe", ".jfif", ".JPG")
    },
    "jpeg of a camera, with previews": Case(
        "a.jpg",
        saved(
            Image.new("RGB", (S, S), (9, 90, 200)),
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (8, 8))],
            quality=100,
        ),
        np.broadcast_to([9, 90, 200], (S, S, 3)),
        within=2,
    ),
    "grey": Case("a.png", saved(grey().astype(np.uint8), "PNG"), rgb(grey())),
    "black and white": Case("a.png", saved(grey().astype(np.uint8) > 99, "PNG"), rgb(np.where(grey() > 99, 255, 0))),
    **{
        f"grey of {bits} bits": Case(
            "a.png", png(grey(2**bits - 1)[..., None], bits, 0), rgb(grey(2**bits - 1) * 255 // (2**bits - 1))
        )
        for bits in (1, 2, 4)
    },
    "palette": Case(
        "a.png",
        saved(Image.fromarray(colours()).quantize(200), "PNG"),
        np.asarray(Image.fromarray(colours()).quantize(200).convert("RGB")),
    ),
    "cmyk": Case(
        "a.tif", saved(Image.new("CMYK", (S, S), (0, 255, 255, 0)), "TIFF"), np.broadcast_to([255, 0, 0], (S, S, 3))
    ),
    "cmyk in a jpeg": Case(
        "a.jpg",
        saved(Image.new("CMYK", (S, S), (0, 255, 255, 0)), "JPEG", quality=100),
        np.broadcast_to([255, 0, 0], (S, S, 3)),
        within=3,
    ),
    "ycbcr": Case(
        "a.tif",
        saved(Image.new("RGB", (S, S), (200, 90, 9)).convert("YCbCr"), "TIFF"),
        np.broadcast_to([200, 90, 9], (S, S, 3)),
        within=3,
    ),
    "lab": Case(
        "a.tif",
        saved(Image.new("LAB", (S, S), (255, 128, 128)), "TIFF"),
        np.full((S, S, 3), 255),
        within=3,
    ),
    "opaque": Case("a.png", saved(np.dstack([colours(), np.full((S, S), 255, np.uint8)]), "PNG"), colours()),
    "transparent": Case(
        "a.png",
        saved(np.dstack([colours(), np.where(grey() > 99, 255, 0).astype(np.uint8)]), "PNG"),
        colours() * (grey() > 99)[..., None],
    ),
    "transparent grey": Case(
        "a.png",
        saved(
            Image.merge(
                "LA",
                [
                    Image.fromarray(np.full((S, S), 200, np.uint8)),
                    Image.fromarray(np.where(grey() > 99, 255, 0).astype(np.uint8)),
                ],
            ),
            "PNG",
        ),
        rgb(np.where(grey() > 99, 200, 0)),
    ),
    "half transparent": Case("a.png", saved(np.full((S, S, 4), 128, np.uint8), "PNG"), np.full((S, S, 3), 64)),
    "transparent colour of a palette": Case(
        "a.png",
        saved(Image.fromarray(grey().astype(np.uint8)).quantize(256), "PNG", transparency=bytes([0] * 256)),
        np.zeros((S, S, 3)),
    ),
    "16 bits": Case("a.png", saved(grey(65535).astype(np.uint16), "PNG"), rgb((grey(65535) / 257).round())),
    "16 bits in a tiff": Case("a.tif", saved(grey(65535).astype(np.uint16), "TIFF"), rgb((grey(65535) / 257).round())),
    "16 bits, big endian": Case(
        "a.tif",
        saved(Image.frombytes("I;16B", (S, S), grey(65535).astype(">u2").tobytes()), "TIFF"),
        rgb((grey(65535) / 257).round()),
    ),
    "16 bits in 32": Case("a.tif", saved(grey(65535).astype(np.int32), "TIFF"), rgb((grey(65535) / 257).round())),
    **{
        f"{bits} bits in {form}": Case(
            f"a.{form}",
            saved(grey(2**bits - 1).astype(kind), "PNG" if form == "png" else "TIFF"),
            rgb((grey(2**bits - 1) * 255 / (2**bits - 1)).round()),
            bits=bits,
        )
        for bits in (10, 12, 14)
        for form, kind in (("png", np.uint16), ("tif", np.uint16), ("tiff", np.int32))
    },
    "8 bits in 32": Case("a.tif", saved(grey(255).astype(np.int32), "TIFF"), rgb(grey(255)), bits=8),
    "dark on purpose": Case(
        "a.png", saved(grey(2570).astype(np.uint16), "PNG"), rgb((grey(2570) / 257).round()), bits=16
    ),
    "8 bits where 16-bit ones use 12": Case("a.png", saved(grey().astype(np.uint8), "PNG"), rgb(grey()), bits=12),
    "floating point": Case("a.tif", saved((grey() / 255).astype(np.float32), "TIFF"), rgb(grey())),
    "floating point, dark": Case("a.tif", saved((grey(51) / 255).astype(np.float32), "TIFF"), rgb(grey(51))),
    "colour of 16 bits": Case("a.png", png(np.dstack([grey(65535)] * 3), 16, 2), rgb(grey(65535) >> 8)),
    "grey of 16 bits and alpha": Case(
        "a.png", png(np.dstack([grey(65535), np.full((S, S), 65535)]), 16, 4), rgb(grey(65535) >> 8)
    ),
    "colour of 16 bits, dark on purpose": Case(
        "a.png", png(np.dstack([grey(2560)] * 3), 16, 2), rgb(grey(2560) >> 8), bits=16
    ),
    "one pixel": Case("a.png", saved(np.full((1, 1, 3), 77, np.uint8), "PNG"), np.full((1, 1, 3), 77)),
    "a line": Case("a.png", saved(colours(1, 99), "PNG"), colours(1, 99)),
    "a column": Case("a.png", saved(colours(99, 1), "PNG"), colours(99, 1)),
    **{
        f"a name with {what}": plain(name)
        for what, name in {
            "spaces": "a b .png",
            "umlauts": "Münze ü.png",
            "Chinese": "图像.png",
            "another encoding": b"M\xfcnze.png",
            "a line break": "a\nb.png",
            "a control code": "a\x1b[31m.png",
            "brackets": "[red]a.png",
            "a dash": "-a.png",
            "quotes": 'it\'s "a".png',
        }.items()
    },
}


def turned(orientation, pixels, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(pixels, form, exif=exif)


def as_seen(orientation, pixels):
    """Undo EXIF's orientations, as its specification defines them."""
    pixels = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


READ |= {
    f"orientation {number}": Case("a.png", turned(number, colours(S, 16), "PNG"), as_seen(number, colours(S, 16)))
    for number in range(1, 9)
}
READ |= {
    "turned, tiff": Case("a.tif", turned(6, colours(S, 16), "TIFF"), as_seen(6, colours(S, 16))),
    "turned, 16 bits": Case(
        "a.png", turned(6, grey(65535).astype(np.uint16), "PNG"), as_seen(6, rgb((grey(65535) / 257).round()))
    ),
}


def with_preview(file):
    small = Image.new("L", (4, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(colours()).save(file, "TIFF", save_all=True, append_images=[small])


def link(target):
    return lambda file: file.symlink_to(target)


def linked(file):
    (file.parent / ".elsewhere").write_bytes(plain().content)
    file.symlink_to(".elsewhere")


def sparse(file):
    with file.open("wb") as opened:
        opened.truncate(2**40)


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


READ |= {
    "tiff with a preview": Case("a.tif", with_preview, colours()),
    "a link": Case("a.png", linked, colours()),
}

PAGES = [Image.fromarray(colours()), Image.fromarray(colours()[::-1])]


def several(form):
    return saved(PAGES[0], form, save_all=True, append_images=PAGES[1:])


FILES = {
    "png": saved(colours(200, 200), "PNG"),
    "jpg": saved(colours(200, 200), "JPEG"),
    "tif": saved(colours(200, 200), "TIFF"),
    "gif": saved(Image.fromarray(colours(200, 200)).quantize(), "GIF"),
    "bmp": saved(colours(200, 200), "BMP"),
    "webp": saved(colours(200, 200), "WEBP", lossless=True),
    "ppm": saved(colours(200, 200), "PPM"),
}

REFUSED = {
    **{
        f"{bits} bits in {form}, undeclared": Case(
            f"a.{form}",
            saved(grey(2**bits - 1).astype(kind), "PNG" if form == "png" else "TIFF"),
            words=f"set dataset.bit_depth={bits} if",
        )
        for bits in (10, 12, 14)
        for form, kind in (("png", np.uint16), ("tif", np.uint16), ("tiff", np.int32))
    },
    "8 bits in 32, undeclared": Case(
        "a.tif", saved(grey(255).astype(np.int32), "TIFF"), words="set dataset.bit_depth=8 if"
    ),
    "black of 16 bits": Case(
        "a.png", saved(np.zeros((S, S), np.uint16), "PNG"), words="16-bit grey without a value above 0"
    ),
    "more bits than declared": Case(
        "a.png", saved(grey(5000).astype(np.uint16), "PNG"), words="the value 5000 does not fit", bits=12
    ),
    "negative integers": Case("a.tif", saved((grey(60000) - 5).astype(np.int32), "TIFF"), words="integers from -5 to"),
    "integers of 17 bits": Case("a.tif", saved(grey(70000).astype(np.int32), "TIFF"), words="integers from 0 to 70000"),
    "floating point to 255": Case(
        "a.tif", saved(grey().astype(np.float32), "TIFF"), words="floating-point values from 0 to 255"
    ),
    "negative floating point": Case(
        "a.tif", saved((grey() / 255 - 0.5).astype(np.float32), "TIFF"), words="values from -0.5 to 0.5"
    ),
    "NaN": Case("a.tif", saved(np.where(grey() == 0, np.nan, 0.5).astype(np.float32), "TIFF"), words="NaN or infinite"),
    "infinite": Case(
        "a.tif", saved(np.where(grey() == 0, np.inf, 0.5).astype(np.float32), "TIFF"), words="NaN or infinite"
    ),
    "colour of 12 bits in 16": Case("a.png", png(np.dstack([grey(4095)] * 3), 16, 2), words="16-bit colour, but dark"),
    "grey of 12 bits and alpha": Case(
        "a.png", png(np.dstack([grey(4095), np.full((S, S), 65535)]), 16, 4), words="16-bit colour, but dark"
    ),
    "colour of 16 bits, declared as 12": Case(
        "a.png", png(np.dstack([grey(4095)] * 3), 16, 2), words="dataset.bit_depth=12 cannot", bits=12
    ),
    "two pages of a tiff": Case("a.tif", several("TIFF"), words="it holds 2 images"),
    "an animated gif": Case("a.gif", several("GIF"), words="it holds 2 images"),
    "an animated png": Case("a.png", several("PNG"), words="it holds 2 images"),
    "an animated webp": Case("a.webp", several("WEBP"), words="it holds 2 images"),
    "empty": Case("a.png", b"", words="damaged"),
    "text": Case("a.png", b"no image", words="damaged"),
    "noise": Case("a.jpg", np.random.default_rng(0).bytes(999), words="damaged"),
    "svg": Case("a.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', words="damaged"),
    **{
        f"half a {suffix}": Case(f"a.{suffix}", file[: len(file) // 2], words="damaged")
        for suffix, file in FILES.items()
    },
    **{
        f"the first bytes of a {suffix}": Case(f"a.{suffix}", file[:12], words="damaged")
        for suffix, file in FILES.items()
    },
    "a flipped bit": Case("a.png", flipped(FILES["png"], 100), words="damaged"),
    "a flipped bit in the header": Case("a.png", flipped(FILES["png"], 18), words="damaged"),
    "no pixels": Case("a.png", png(np.zeros((1, 1, 3), int), 8, 2, size=(0, 0)), words="damaged"),
    "400 megapixels": Case(
        "a.png",
        lambda file: Image.new("1", (20000, 20000)).save(file, compress_level=1),
        words="more than 178 megapixels",
    ),
    "a header of 65535 × 65535": Case(
        "a.png", png(np.zeros((1, 1, 3), int), 8, 2, size=(65535, 65535)), words="more than 178"
    ),
    "a link to nothing": Case("a.png", link("nowhere.png"), words="no such file"),
    "a link to an endless file": Case("a.png", link("/dev/zero"), words="not a regular file"),
    "a link to a random file": Case("a.png", link("/dev/urandom"), words="not a regular file"),
    "a link to itself": Case("a.png", link("a.png"), words="too many levels of symbolic links"),
    "a pipe": Case("a.png", os.mkfifo, words="not a regular file"),
    "a file of a terabyte": Case("a.png", sparse, words="larger than 4 GiB"),
}


def palette(colours_, indices):
    image = Image.fromarray(np.asarray(indices, dtype=np.uint8))
    image.putpalette([channel for colour in colours_ for channel in colour])
    return image


M = np.zeros((S, S), dtype=bool)
"""The defective pixels of all masks below."""
M[5:14, 6:20] = True
IDS = np.where(M, 1 + np.arange(S) % 3, 0)
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]


def mask(values, kind=np.uint8, form="PNG", suffix="png", **options):
    image = values if isinstance(values, Image.Image) else np.asarray(values).astype(kind)
    return Case(f"m.{suffix}", saved(image, form, **options), M)


def refused_mask(words, *arguments, **options):
    case = mask(*arguments, **options)
    return Case(case.name, case.content, None, words)


MASKS = {
    "white": mask(M * 255),
    "ones": mask(M),
    "class ids": mask(IDS),
    "dark grey": mask(M * 127),
    "light grey": mask(M * 128),
    "soft edges": mask(np.where(M, 255, np.where(np.roll(M, 1, 0), 100, 0))),
    "one bit": mask(M, bool),
    "bmp": mask(M * 255, form="BMP", suffix="bmp"),
    "gif": mask(M * 255, form="GIF", suffix="gif"),
    "jpeg": mask(np.kron(M, np.ones((8, 8))) * 255, form="JPEG", suffix="jpg"),
    "webp": mask(Image.fromarray((M * 255).astype(np.uint8)), form="WEBP", suffix="webp", lossless=True),
    "tiff, one bit": mask(M, bool, form="TIFF", suffix="tif", compression="group4"),
    "16 bits, white": mask(M * 65535, np.uint16),
    "16 bits, ones": mask(M, np.uint16),
    "16 bits, 255": mask(M * 255, np.uint16),
    "16 bits, ids": mask(IDS * 300, np.uint16),
    "32 bits, ones": mask(M, np.int32, form="TIFF", suffix="tif"),
    "floating point": mask(M, np.float32, form="TIFF", suffix="tif"),
    "red": mask(M[..., None] * [255, 0, 0]),
    "dark blue": mask(M[..., None] * [0, 0, 90]),
    "VOC's palette": mask(palette(VOC, IDS)),
    "a red palette": mask(palette([(0, 0, 0), (200, 0, 0)], M)),
    "white before black": mask(palette([(255, 255, 255), (0, 0, 0)], ~M)),
    "a palette without colours": mask(palette([(0, 0, 0)] * 4, IDS)),
    "red on nothing": mask(np.dstack([np.full((S, S), 255), *np.zeros((2, S, S)), M * 255])),
    "white with alpha": mask(np.dstack([*[M * 255] * 3, np.full((S, S), 255)])),
    "ids among white": refused_mask("as of class ids", np.where(M, 15, np.where(np.roll(M, 2, 0), 255, 0))),
    "ids in a jpeg": refused_mask("as of class ids", np.kron(IDS, np.ones((8, 8))) * 20, form="JPEG", suffix="jpg"),
    "NaN": refused_mask("NaN", np.where(M, np.nan, 0), np.float32, form="TIFF", suffix="tif"),
    "floating point to 255": refused_mask("values from 0 to 255", M * 255, np.float32, form="TIFF", suffix="tif"),
    "negative": refused_mask("values from -1 to 0", -1 * M, np.int32, form="TIFF", suffix="tif"),
    "two pages": Case("m.tif", several("TIFF"), None, "it holds 2 images"),
    "colour of 12 bits in 16": Case("m.png", png(np.dstack([M * 4095] * 3), 16, 2), None, "16-bit colour, but dark"),
    "half a file": Case("m.png", FILES["png"][:300], None, "damaged"),
    "text": Case("m.png", b"no mask", None, "damaged"),
    "a link to nothing": Case("m.png", link("nowhere"), None, "no such file"),
    "a link to an endless file": Case("m.png", link("/dev/zero"), None, "not a regular file"),
}
