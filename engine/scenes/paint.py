"""The picture of a street: its objects inside the pixels of their ground truth, then light, weather and lens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.scenes.shapes import Colour, shade
from engine.scenes.street import Camera, Facade
from engine.scenes.trace import COUNTABLE_LABELS, SHIFT, Traced, draw_part, look_up

_GROUND = ("road", "sidewalk", "terrain")
# Strength of fine, leaf-sized and large brightness changes by label.
_TEXTURE: dict[str, tuple[float, float, float]] = {
    "road": (0.035, 0.02, 0.06), "sidewalk": (0.03, 0.04, 0.06), "terrain": (0.07, 0.12, 0.12), "sky": (0.0, 0.0, 0.03),
    "building": (0.025, 0.03, 0.08), "vegetation": (0.08, 0.22, 0.12), "wall": (0.04, 0.06, 0.08),
}  # fmt: skip
_OTHER_TEXTURE = (0.02, 0.03, 0.04)


@dataclass(frozen=True)
class Look:
    """Light, weather and camera of one picture.

    Attributes:
        sky_top: colour of the sky overhead.
        sky_low: colour of the sky at the horizon and of the haze.
        clear: metres after which haze has taken about two thirds of a colour.
        exposure: common factor of brightness.
        gamma: exponent that makes the middle tones brighter (< 1) or darker.
        contrast: factor of the distance from a dark middle grey.
        cast: factor of each channel.
        sun: from which side objects are lit, -1 left to 1 right.
        shadow: strength of the shadows on the ground.
        blur: standard deviation of the lens in pixels.
        noise: standard deviation of the sensor's noise in grey levels.
        dusk: whether lamps shine.
    """

    sky_top: Colour
    sky_low: Colour
    clear: float
    exposure: float
    gamma: float
    contrast: float
    cast: Colour
    sun: float
    shadow: float
    blur: float
    noise: float
    dusk: bool

    @classmethod
    def draw(cls, rng: Random) -> Look:
        """Choose sun, cloud, haze or dusk at random."""
        kind = rng.choices(("sun", "cloud", "haze", "dusk"), (4, 4, 1.5, 2))[0]
        skies: dict[str, tuple[Colour, Colour]] = {
            "sun": ((88, 140, 206), (196, 214, 230)),
            "cloud": ((176, 182, 190), (216, 218, 218)),
            "haze": ((190, 192, 194), (206, 206, 204)),
            "dusk": ((70, 84, 126), (226, 170, 128)),
        }
        top, low = skies[kind]
        warm = rng.gauss(0.0, 0.05) + (0.06 if kind == "dusk" else 0.0)
        return cls(
            sky_top=shade(top, rng.uniform(0.85, 1.15)),
            sky_low=shade(low, rng.uniform(0.9, 1.1)),
            clear=rng.uniform(45, 90) if kind == "haze" else rng.uniform(150, 700),
            exposure=rng.uniform(0.55, 0.85) if kind == "dusk" else rng.uniform(0.8, 1.2),
            gamma=rng.uniform(0.85, 1.2),
            contrast=rng.uniform(0.8, 1.12),
            cast=(1 + warm, 1 + rng.gauss(0.0, 0.02), 1 - warm),
            sun=rng.uniform(-1, 1),
            shadow=rng.uniform(0.35, 0.6) if kind == "sun" else rng.uniform(0.15, 0.35),
            blur=rng.uniform(0.45, 0.9),
            noise=rng.uniform(0.8, 3.5),
            dusk=kind == "dusk",
        )


def picture(
    things: list[Traced], numbers: NDArray[np.uint8], camera: Camera, look: Look, seed: int
) -> NDArray[np.uint8]:
    """Paint the objects inside their own pixels, then texture, shadow, haze, lens, light and noise: (H, W, 3) RGB."""
    canvas = _sky(camera, look)
    glow = np.zeros((camera.size_hw[0] // 4 + 1, camera.size_hw[1] // 4 + 1, 3), np.uint8)
    for number, thing in enumerate(things, start=1):
        _paint(canvas, glow if look.dusk else None, numbers, number, thing, camera)
    height, width = camera.size_hw
    noise = _noise(seed, camera.size_hw)
    veil = _haze(things, numbers, camera, look)
    light = _surface(things, numbers, look, noise[::-1, ::-1]) * _shadows(things, numbers, camera, look) * (1 - veil)
    noise *= np.float32(look.noise)
    # Channel by channel, as one plane times one plane is much faster than three interleaved; `add` saturates.
    planes = [
        cv2.add(cv2.multiply(plane, light, dtype=cv2.CV_32F), veil * np.float32(far) + noise, dtype=cv2.CV_8U)
        for plane, far in zip(cv2.split(canvas), look.sky_low, strict=True)
    ]
    toned = cv2.LUT(cv2.GaussianBlur(cv2.merge(planes), (3, 3), look.blur), _tone(look))
    if look.dusk:
        halo = cv2.GaussianBlur(cv2.resize(glow, (width, height), interpolation=cv2.INTER_LINEAR), (0, 0), height / 90)
        toned = cv2.add(toned, halo)
    return np.asarray(toned, np.uint8)


def _sky(camera: Camera, look: Look) -> NDArray[np.uint8]:
    height, width = camera.size_hw
    down = np.clip(np.arange(height) / max(camera.horizon, 1.0), 0, 1)[:, None] ** 0.8
    rows = np.array(look.sky_top) * (1 - down) + np.array(look.sky_low) * down
    return np.repeat(np.clip(rows, 0, 255).astype(np.uint8)[:, None], width, axis=1)


def _paint(
    canvas: NDArray[np.uint8],
    glow: NDArray[np.uint8] | None,
    numbers: NDArray[np.uint8],
    number: int,
    thing: Traced,
    camera: Camera,
) -> None:
    x0, y0, x1, y1 = thing.box
    own = numbers[y0:y1, x0:x1]
    target = canvas[y0:y1, x0:x1]
    layer = target.copy()
    body = next((part.colour for part in thing.placed.parts if part.solid), None)
    if body is not None:  # a solid thing leaves no pixel of its outline unpainted
        outline = thing.outline - np.array((x0, y0), np.int32)
        cv2.fillPoly(layer, [outline], body)
        cv2.polylines(layer, [outline], True, body, 2)
    for part, points in zip(thing.placed.parts, thing.corners, strict=True):
        if part.colour is not None:
            draw_part(layer, part, points, part.colour, thing.scale, cv2.LINE_AA)
            if part.glow and glow is not None:
                x, y = points.mean(axis=0) / (1 << SHIFT) / 4
                cv2.circle(glow, (int(x + x0 / 4), int(y + y0 / 4)), max(1, round(thing.scale / 16)), part.colour, -1)
    if thing.placed.facade is not None:
        _windows(layer, own >= number, thing.placed.facade, thing.box, camera)
    # Also under later objects, as those may be transparent; never on pixels of earlier outlines.
    cv2.copyTo(layer, (own >= number).view(np.uint8), target)


def _windows(
    layer: NDArray[np.uint8],
    seen: NDArray[np.bool_],
    facade: Facade,
    box: tuple[int, int, int, int],
    camera: Camera,
) -> None:
    """Windows and shop front of a house, in perspective on the wall along the street and flat on the other wall."""
    x0, y0, x1, y1 = box
    columns = np.arange(x0, x1, dtype=np.float32) + 0.5
    near_scale = camera.focal / max(facade.near, 0.5)
    corner = camera.centre_x + near_scale * facade.wall_x
    along = (columns < corner) == (facade.wall_x > 0)
    offset = (columns - camera.centre_x) / facade.wall_x
    scale = np.where(along, np.maximum(offset, 1e-3), near_scale).astype(np.float32)  # pixels per metre by column
    across = np.where(along, camera.focal / scale - facade.near, (columns - corner) / near_scale)
    rows = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5
    up = ((camera.horizon - rows) / scale + camera.height) / facade.pitch[1]
    cell_x = across / facade.pitch[0]
    in_x = np.abs(cell_x - np.floor(cell_x) - 0.5) < facade.open_share[0] / 2
    storey = np.floor(up)
    up -= storey
    first = 1 if facade.shop else 0
    top = int(facade.height / facade.pitch[1]) - 1
    window = (up > 0.3) & (up < 0.3 + facade.open_share[1]) & (storey >= first) & (storey <= top) & in_x & seen
    row, column = np.nonzero(window)
    kinds = (np.floor(cell_x[column]) * 7 + storey[row, column] * 13 + facade.near * 31).astype(np.int64) % 16
    tones = (0.8 + 0.03 * np.arange(16)[:, None]) * np.array(facade.glass)
    tones[: round(facade.lit_share * 16)] = (255, 214, 140)
    layer[row, column] = tones.astype(np.uint8)[kinds]
    if facade.shop:
        ground = (storey == 0) & seen
        layer[ground & (up > 0.74) & (up < 0.96)] = np.array(facade.shop, np.uint8)
        layer[ground & (up > 0.12) & (up <= 0.74) & in_x] = np.array(facade.glass, np.uint8) // 2 + 12


def _surface(
    things: list[Traced], numbers: NDArray[np.uint8], look: Look, noise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Brightness of each pixel: grain, leaves and blotches of the material, and light from above and one side."""
    height, width = numbers.shape
    cell = max(1.0, height / 320)
    grain, leaves, blotches = (_enlarged(noise, size) for size in (cell, cell * 4, height / 6))
    table = np.zeros((6, 256), np.float32)
    for number, thing in enumerate(things, start=1):
        table[:3, number] = _TEXTURE.get(thing.placed.label, _OTHER_TEXTURE)
        x0, y0, x1, y1 = thing.box
        down = across = 0.0
        if thing.placed.label in COUNTABLE_LABELS or thing.placed.label == "vegetation":
            # Rounded objects: up to a tenth brighter at the top and on the side of the sun.
            down, across = -0.22 / (y1 - y0), 0.2 * look.sun / (x1 - x0)
        table[3:, number] = (down, across, 1 - down * (y0 + y1) / 2 - across * (x0 + x1) / 2)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    light = np.asarray(cv2.LUT(numbers, table[5]))
    for strength, field in zip(table, (grain, leaves, blotches, rows, columns), strict=False):
        light += cv2.LUT(numbers, strength) * field
    return np.asarray(np.maximum(light, 0.2), np.float32)


def _noise(seed: int, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Noise of mean 0 and deviation 1: sums of two random bytes, drawn ten times faster than normal values."""
    one, two = np.random.Generator(np.random.SFC64(seed)).integers(0, 256, (2, *size_hw), np.uint8)
    return np.asarray((one.astype(np.float32) + two - 255) / 104.5, np.float32)


def _enlarged(noise: NDArray[np.float32], cell: float) -> NDArray[np.float32]:
    """A corner of the noise, stretched over the picture so that one value covers `cell` pixels."""
    if cell <= 1.0:
        return noise
    height, width = noise.shape
    corner = noise[: int(height / cell) + 2, : int(width / cell) + 2]
    return np.asarray(cv2.resize(corner, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _shadows(things: list[Traced], numbers: NDArray[np.uint8], camera: Camera, look: Look) -> NDArray[np.float32]:
    """Darkening of the ground under and beside the objects that stand on it."""
    height, width = numbers.shape
    dark = np.zeros((height // 2 + 1, width // 2 + 1), np.uint8)
    for thing in things:
        half_x, half_z = thing.placed.footprint
        if half_x:
            x, z = thing.placed.x - look.sun * half_x * 0.6, thing.placed.z
            turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            depth = np.maximum(z + 1.15 * half_z * np.sin(turns), 0.5)
            columns = camera.centre_x + camera.focal * (x + 1.25 * half_x * np.cos(turns)) / depth
            rows = camera.horizon + camera.focal * camera.height / depth
            cv2.fillPoly(dark, [(np.stack([columns, rows], 1) / 2).astype(np.int32)], 255)
    soft = cv2.GaussianBlur(dark, (0, 0), max(0.8, height / 250))
    soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    strength = look.shadow / 255
    taken = look_up([0, *(strength * (thing.placed.label in _GROUND) for thing in things)], numbers)
    return np.asarray(1 - soft * taken, np.float32)


def _haze(things: list[Traced], numbers: NDArray[np.uint8], camera: Camera, look: Look) -> NDArray[np.float32]:
    """Share of the haze's colour in each pixel: by the distance of the object, or on the ground by that of the row."""
    flat = look_up([0, *(thing.placed.flat for thing in things)], numbers, np.uint8)
    share = look_up([0.0, *(1 - math.exp(-thing.placed.z / look.clear) for thing in things)], numbers)
    below = np.maximum(np.arange(camera.size_hw[0]) + 0.5 - camera.horizon, 0.5)
    rows = (1 - np.exp(-camera.focal * camera.height / below / look.clear)).astype(np.float32)
    return np.where(flat, rows[:, None], share)


def _tone(look: Look) -> NDArray[np.uint8]:
    """The tone curve of each channel: (1, 256, 3)."""
    level = np.linspace(0, 1, 256)[:, None] ** look.gamma
    level = (0.35 + (level - 0.35) * look.contrast) * look.exposure * np.array(look.cast)
    return np.asarray(np.clip(level * 255, 0, 255).round(), np.uint8)[None]
