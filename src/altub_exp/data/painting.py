"""The built-in images: two textures and an object, with natural variation and defects.

Every function takes a random generator; colours are floats from 0 to 1, [S, S, 3]. The function of a category returns
pixels and the surface [S, S] that defects may lie on; that of a defect returns pixels and the defect's opacity [S, S],
from which the mask is cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

Field = NDArray[np.float64]
Random = np.random.Generator


def grid(size: int) -> tuple[Field, Field]:
    """Return the coordinates (y, x) of the pixels, from −1 to 1."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def noise(size: int, random: Random, grain: float, stretch: float = 1.0) -> Field:
    """Return smooth noise of unit variance, ``grain`` sides of the image long and ``stretch`` times that along y."""
    field = gaussian_filter(random.normal(size=(size, size)), (grain * stretch * size, grain * size), mode="wrap")
    return np.asarray((field - field.mean()) / field.std())


def tint(values: Field, dark: tuple[float, ...], bright: tuple[float, ...]) -> Field:
    """Return colours between two, from values between 0 and 1."""
    mixed: Field = np.asarray(dark) + values[..., None] * (np.asarray(bright) - np.asarray(dark))
    return mixed


def light(pixels: Field, random: Random) -> Field:
    """Add uneven illumination, exposure and sensor noise."""
    size = len(pixels)
    y, x = grid(size)
    slope = random.normal(scale=0.05, size=2)
    shade = random.uniform(0.92, 1.06) + slope[0] * y + slope[1] * x - random.uniform(0.0, 0.06) * (x**2 + y**2)
    lit: Field = pixels * shade[..., None] + random.normal(scale=0.015, size=pixels.shape)
    return lit


def blob(size: int, random: Random, centre: tuple[float, float], radius: float, rough: float = 0.35) -> Field:
    """Return the opacity of a patch with soft edges and an irregular outline."""
    y, x = grid(size)
    distance = np.hypot(y - centre[0], (x - centre[1]) * random.uniform(0.7, 1.4)) / radius
    edge = distance + rough * 0.5 * noise(size, random, radius / 5)
    return np.asarray(expit((1 - edge) * 12))


def stroke(size: int, random: Random, start: tuple[float, float], length: float, width: float, bend: float) -> Field:
    """Return the opacity of a curved line with soft edges."""
    y, x = grid(size)
    angle, opacity = random.uniform(0, 2 * np.pi), np.zeros((size, size))
    py, px = start
    steps = max(8, int(length * size / 3))
    turns = random.normal(scale=bend, size=steps)
    for turn in turns:
        opacity = np.maximum(opacity, np.exp(-0.5 * (((y - py) ** 2 + (x - px) ** 2) / width**2)))
        angle += turn / np.sqrt(steps)
        py, px = py + np.sin(angle) * length / steps, px + np.cos(angle) * length / steps
    return opacity


def somewhere(surface: Field, random: Random) -> tuple[float, float]:
    """Return a point (y, x) of the surface, away from the border."""
    size = len(surface)
    y, x = grid(size)
    allowed = np.argwhere((surface > 0.5) & (np.abs(y) < 0.75) & (np.abs(x) < 0.75))
    row, column = allowed[random.integers(len(allowed))]
    return float(y[row, column]), float(x[row, column])


def over(pixels: Field, colour: Field | float, opacity: Field) -> Field:
    """Lay a colour over the pixels."""
    return pixels * (1 - opacity[..., None]) + colour * opacity[..., None]


def fabric(size: int, random: Random) -> tuple[Field, Field]:
    """A plain weave, slightly rotated and warped."""
    y, x = grid(size)
    angle = random.normal(scale=0.05)
    u = x * np.cos(angle) - y * np.sin(angle) + 0.012 * noise(size, random, 0.12)
    v = x * np.sin(angle) + y * np.cos(angle) + 0.012 * noise(size, random, 0.12)
    threads, phase = 11, random.uniform(0, 2 * np.pi, size=2)
    warp, weft = np.sin(np.pi * threads * u + phase[0]), np.sin(np.pi * threads * v + phase[1])
    relief = 0.5 + 0.28 * np.where(warp * weft > 0, np.abs(warp), np.abs(weft)) * np.sign(warp * weft)
    relief += 0.03 * noise(size, random, 0.006, stretch=3) + 0.02 * noise(size, random, 0.2)
    return tint(relief, (0.16, 0.19, 0.28), (0.72, 0.70, 0.66)), np.ones((size, size))


def fabric_hole(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A hole, through which the dark ground shows."""
    opacity = blob(len(pixels), random, somewhere(surface, random), random.uniform(0.05, 0.12))
    return over(pixels, random.uniform(0.08, 0.2), opacity * random.uniform(0.7, 1.0)), opacity


def fabric_stain(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A stain: a faint discoloured patch."""
    opacity = blob(len(pixels), random, somewhere(surface, random), random.uniform(0.12, 0.25), rough=0.5)
    stain = pixels * np.asarray([0.95, 0.80, 0.62])
    return over(pixels, stain, opacity * random.uniform(0.35, 0.9)), opacity


def fabric_thread(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A loose thread on the weave."""
    start = somewhere(surface, random)
    opacity = stroke(len(pixels), random, start, random.uniform(0.3, 0.8), 0.016, bend=1.5)
    return over(pixels, np.asarray([0.75, 0.73, 0.70]), opacity * random.uniform(0.5, 0.9)), opacity


def grain(size: int, random: Random) -> tuple[Field, Field]:
    """Planed wood, its fibres along y."""
    _, x = grid(size)
    rings = x * random.uniform(2.2, 2.8) + 0.35 * noise(size, random, 0.08, stretch=5)
    relief = 0.52 + 0.13 * np.sin(2 * np.pi * rings + random.uniform(0, 2 * np.pi))
    relief += 0.06 * noise(size, random, 0.006, stretch=14) + 0.03 * noise(size, random, 0.03, stretch=6)
    return tint(relief, (0.15, 0.15, 0.15), (0.9, 0.9, 0.9)), np.ones((size, size))


def grain_bleach(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A patch that has lost contrast and colour."""
    opacity = blob(len(pixels), random, somewhere(surface, random), random.uniform(0.12, 0.25), rough=0.5)
    return over(pixels, 0.5 * pixels + 0.36, opacity * random.uniform(0.35, 0.9)), opacity


def grain_knot(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A knot: the dark rings of a branch."""
    size, centre = len(pixels), somewhere(surface, random)
    y, x = grid(size)
    radius = random.uniform(0.07, 0.15)
    distance = np.hypot((y - centre[0]) / 1.5, x - centre[1]) / radius
    opacity = np.asarray(expit((1 - distance) * 10))
    rings = 0.28 + 0.10 * np.sin(2 * np.pi * distance * 2.5)
    return over(pixels, rings[..., None], opacity * random.uniform(0.5, 0.95)), opacity


def grain_scratch(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A scratch: a thin bright line across the fibres."""
    opacity = stroke(len(pixels), random, somewhere(surface, random), random.uniform(0.3, 0.7), 0.013, bend=0.4)
    return over(pixels, 0.92, opacity * random.uniform(0.35, 0.8)), opacity


def washer(size: int, random: Random) -> tuple[Field, Field]:
    """A brushed ring on a belt, of varying position, size and rotation."""
    y, x = grid(size)
    centre, radius = random.normal(scale=0.04, size=2), random.normal(0.66, 0.015)
    distance = np.hypot(y - centre[0], x - centre[1])
    ring = expit((radius - distance) * size / 3) * expit((distance - 0.46 * radius) * size / 3)
    angle = np.arctan2(y - centre[0], x - centre[1])
    turn = random.uniform(0, 2 * np.pi)
    metal = 0.62 + 0.10 * np.cos(2 * (angle - turn)) + 0.05 * np.sin(distance * 90 + random.uniform(0, 6))
    metal += 0.03 * noise(size, random, 0.008)
    belt = 0.27 + 0.02 * noise(size, random, 0.01) + 0.02 * noise(size, random, 0.15)
    shadow = np.exp(-((np.hypot(y - centre[0] - 0.04, x - centre[1] - 0.04) - radius) ** 2) / 0.004)
    ground = tint(belt * (1 - 0.35 * shadow), (0.0, 0.02, 0.03), (0.95, 1.0, 1.0))
    return over(ground, tint(metal, (0.02, 0.02, 0.0), (1.0, 0.98, 0.94)), ring), ring


def washer_contamination(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """Specks of dirt on the metal."""
    size, opacity = len(pixels), np.zeros_like(surface)
    place = somewhere(surface, random)
    for _ in range(random.integers(2, 6)):
        near = (place[0] + random.normal(scale=0.07), place[1] + random.normal(scale=0.07))
        opacity = np.maximum(opacity, blob(size, random, near, random.uniform(0.02, 0.05)))
    return over(pixels, np.asarray([0.30, 0.24, 0.16]), opacity * random.uniform(0.5, 0.95)), opacity


def washer_dent(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A piece missing from an edge, where the belt shows."""
    size = len(pixels)
    edge = np.abs(np.gradient(gaussian_filter(surface, size / 100))[0]) + 1e-9
    place = somewhere((edge > 0.5 * edge.max()).astype(float), random)
    opacity = blob(size, random, place, random.uniform(0.05, 0.11)) * (surface > 0.1)
    return over(pixels, np.asarray([0.26, 0.28, 0.29]), opacity), opacity


def washer_scratch(pixels: Field, surface: Field, random: Random) -> tuple[Field, Field]:
    """A scratch: a thin line in the metal, bright or dark."""
    start = somewhere(surface, random)
    opacity = stroke(len(pixels), random, start, random.uniform(0.15, 0.4), 0.011, bend=0.5) * (surface > 0.5)
    return over(pixels, float(random.choice([0.95, 0.3])), opacity * random.uniform(0.4, 0.9)), opacity


CATEGORIES = {"fabric": fabric, "grain": grain, "washer": washer}
DEFECTS = {
    "fabric": {"hole": fabric_hole, "stain": fabric_stain, "thread": fabric_thread},
    "grain": {"bleach": grain_bleach, "knot": grain_knot, "scratch": grain_scratch},
    "washer": {"contamination": washer_contamination, "dent": washer_dent, "scratch": washer_scratch},
}
