"""People, cycles, trees and street furniture of the generated streets, as coloured parts in metres.

A shape stands on the ground at the origin of its own frame: x to the right, y up, z away from the viewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

Colour = tuple[float, float, float]
Point = tuple[float, float, float]

_CIRCLE = [(math.cos(i * math.pi / 7), math.sin(i * math.pi / 7)) for i in range(14)]
_TYRE: Colour = (28, 28, 30)
_METAL: Colour = (120, 122, 124)
_SKINS: tuple[Colour, ...] = ((236, 196, 168), (214, 164, 128), (168, 116, 82), (104, 70, 50))
_HAIR: tuple[Colour, ...] = ((36, 28, 24), (84, 58, 38), (150, 116, 70), (128, 126, 124))


class Part(NamedTuple):
    """One painted piece of a shape.

    Attributes:
        points: corners of a polygon, or the course of a line, in metres.
        colour: RGB from 0 to 255, or None for a see-through part that only belongs to the silhouette.
        width: width of a line in metres; 0 makes it a filled polygon.
        solid: whether the part belongs to the silhouette; details inside it do not need to.
        glow: whether the part shines in the dusk.
    """

    points: Sequence[Point]
    colour: Colour | None
    width: float = 0.0
    solid: bool = True
    glow: bool = False


def tint(rng: Random, colour: Colour, spread: float = 14.0) -> Colour:
    """A colour near the given one: all channels change by one random amount, and each by a small one of its own."""
    shift = rng.gauss(0.0, spread)
    red, green, blue = (min(255.0, max(0.0, c + shift + rng.gauss(0.0, spread / 5))) for c in colour)
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """The colour under more or less light."""
    return min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor)


def any_colour(rng: Random, low: float = 25.0, high: float = 215.0) -> Colour:
    """A colour from grey to saturated, as clothes and paint have."""
    value, strength, hue = rng.uniform(low, high), rng.random() ** 1.6 * 0.65, rng.uniform(0.0, 6.283)
    red, green, blue = (value * (1 + strength * math.cos(hue - k * 2.094)) for k in range(3))
    return min(255.0, max(0.0, red)), min(255.0, max(0.0, green)), min(255.0, max(0.0, blue))


def box(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """An upright rectangle facing the viewer."""
    return [(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)]


def disc(x: float, y: float, rx: float, ry: float | None = None) -> list[Point]:
    """An upright ellipse facing the viewer."""
    ry = rx if ry is None else ry
    return [(x + rx * c, y + ry * s, 0.0) for c, s in _CIRCLE]


def limb(start: tuple[float, float], end: tuple[float, float], wide: float, narrow: float) -> list[Point]:
    """A tapering bar from `start` to `end`, `wide` across at the start and `narrow` at the end."""
    (ax, ay), (bx, by) = start, end
    length = math.hypot(bx - ax, by - ay) or 1.0
    nx, ny = (ay - by) / length / 2, (bx - ax) / length / 2
    return [
        (ax + nx * wide, ay + ny * wide, 0.0),
        (bx + nx * narrow, by + ny * narrow, 0.0),
        (bx - nx * narrow, by - ny * narrow, 0.0),
        (ax - nx * wide, ay - ny * wide, 0.0),
    ]


def _head(rng: Random, x: float, y: float, size: float, *, helmet: bool = False) -> list[Part]:
    skin = tint(rng, rng.choice(_SKINS), 8)
    cover = any_colour(rng) if helmet or rng.random() < 0.15 else tint(rng, rng.choice(_HAIR), 10)
    face = rng.uniform(-0.35, 0.35) * size
    return [
        Part(limb((x, y - size * 1.7), (x, y - size * 0.6), size * 0.9, size * 0.9), shade(skin, 0.85)),
        Part(disc(x, y, size * 0.84, size * 1.05), skin),
        Part(disc(x - face * 0.3, y + size * 0.42, size * 0.88, size * 0.68), cover),
    ]


def person(rng: Random) -> list[Part]:
    """A standing or walking pedestrian, adult or child, with the clothes of the day."""
    h = rng.uniform(1.1, 1.4) if rng.random() < 0.12 else rng.uniform(1.58, 1.92)
    build, stride = rng.uniform(0.85, 1.2), rng.uniform(-0.17, 0.17) * h
    top, legs = any_colour(rng), any_colour(rng, 20, 130)
    shoes = tint(rng, (45, 40, 38), 15)
    shoulder, waist = 0.125 * h * build, 0.092 * h * build
    parts = []
    for side, foot in ((-1, stride), (1, -stride)):
        hip = (side * 0.045 * h * build, 0.52 * h)
        knee = ((hip[0] + foot) * 0.55 + rng.uniform(0, 0.02) * h, 0.27 * h)
        parts += [
            Part(limb(hip, knee, 0.105 * h * build, 0.085 * h), shade(legs, 0.8 if side < 0 else 1.0)),
            Part(limb(knee, (foot, 0.03 * h), 0.085 * h, 0.06 * h), shade(legs, 0.75 if side < 0 else 0.95)),
            Part(box(foot - 0.05 * h, 0.0, foot + 0.06 * h, 0.045 * h), shoes),
        ]
    hem = 0.30 * h if rng.random() < 0.3 else 0.47 * h
    swing = stride * 0.6
    sleeve = shade(top, 0.82)
    parts.append(Part(limb((-shoulder, 0.79 * h), (-shoulder * 1.2 - swing, 0.47 * h), 0.075 * h, 0.05 * h), sleeve))
    torso = ((-shoulder, 0.82), (shoulder, 0.82), (waist, 0.6), (waist * 1.15, hem / h), (-waist * 1.15, hem / h))
    parts.append(Part([(x, y * h, 0.0) for x, y in (*torso, (-waist, 0.6))], top))
    parts.append(Part(limb((shoulder, 0.79 * h), (shoulder * 1.2 + swing, 0.47 * h), 0.075 * h, 0.05 * h), sleeve))
    parts += _head(rng, 0.0, 0.925 * h, 0.072 * h)
    if rng.random() < 0.35:
        side = rng.choice((-1, 1))
        x, y = side * shoulder * 1.25, rng.uniform(0.42, 0.62) * h
        parts.append(Part(box(x - 0.07 * h, y, x + 0.07 * h, y + 0.17 * h), any_colour(rng)))
    return parts


def crowd(rng: Random, count: int) -> list[Part]:
    """Pedestrians so close together that no outline of a single one can be drawn."""
    parts: list[Part] = []
    for number in range(count):
        shift = (number - count / 2) * 0.36 + rng.uniform(-0.06, 0.06)
        parts += [part._replace(points=[(x + shift, y, z) for x, y, z in part.points]) for part in person(rng)]
    return parts


def bicycle(rng: Random, *, side_view: bool) -> list[Part]:
    """A bicycle; between its spokes and tubes the street behind it is visible, but that area belongs to the outline."""
    frame = any_colour(rng, 30, 200)
    if not side_view:
        bar = [(-0.28, 1.05, 0.0), (-0.1, 1.12, 0.0), (0.1, 1.12, 0.0), (0.28, 1.05, 0.0)]
        return [
            Part(disc(0.0, 0.35, 0.09, 0.35), None),
            Part([(0.0, 0.0, 0.0), (0.0, 0.7, 0.0)], _TYRE, width=0.07),
            Part([(0.0, 0.6, 0.0), (0.0, 1.1, 0.0)], frame, width=0.07),
            Part(bar, _METAL, width=0.06),
            Part(box(-0.15, 0.27, 0.15, 0.33), _TYRE),
        ]
    parts = [Part([(-0.52, 0.34, 0.0), (-0.18, 0.9, 0.0), (0.42, 0.95, 0.0), (0.52, 0.34, 0.0), (0, 0.28, 0)], None)]
    for x in (-0.53, 0.53):
        rim = disc(x, 0.345, 0.33)
        parts += [Part(disc(x, 0.345, 0.345), None), Part([*rim, rim[0]], _TYRE, width=0.055)]
        parts += [
            Part([(x - 0.3 * c, 0.345 - 0.3 * s, 0), (x + 0.3 * c, 0.345 + 0.3 * s, 0)], _METAL, 0.012, solid=False)
            for c, s in _CIRCLE[:7:2]
        ]
    tubes = [(-0.53, 0.345), (0.0, 0.3), (-0.14, 0.8), (-0.53, 0.345), (-0.14, 0.8), (0.38, 0.82), (0.0, 0.3)]
    parts += [
        Part([(x, y, 0.0) for x, y in tubes], frame, width=0.05),
        Part([(0.53, 0.345, 0.0), (0.38, 0.85, 0.0), (0.36, 1.02, 0.0), (0.48, 1.05, 0.0)], frame, width=0.05),
        Part(box(-0.28, 0.88, -0.02, 0.95), (40, 34, 30)),
        Part([(-0.12, 0.75, 0.0), (-0.15, 0.92, 0.0)], _METAL, width=0.04),
    ]
    return parts


def motorcycle(rng: Random, *, side_view: bool) -> list[Part]:
    """A motorcycle or scooter, much more solid than a bicycle."""
    paint, dark = any_colour(rng, 30, 200), tint(rng, (48, 48, 52), 8)
    if not side_view:
        return [
            Part(disc(0.0, 0.34, 0.1, 0.34), _TYRE),
            Part(
                [(-0.2, 0.35, 0), (0.2, 0.35, 0), (0.28, 0.8, 0), (0.14, 1.1, 0), (-0.14, 1.1, 0), (-0.28, 0.8, 0)],
                paint,
            ),
            Part(disc(0.0, 0.88, 0.11), (238, 232, 210), glow=True),
            Part([(-0.4, 1.16, 0.0), (0.0, 1.02, 0.0), (0.4, 1.16, 0.0)], dark, width=0.07),
        ]
    body = [
        (-0.85, 0.75, 0),
        (-0.6, 0.86, 0),
        (-0.1, 0.8, 0),
        (0.15, 0.98, 0),
        (0.5, 1.0, 0),
        (0.55, 0.72, 0),
        (0.2, 0.3, 0),
        (-0.4, 0.28, 0),
    ]
    parts = [Part([(x, y, 0.0) for x, y, _ in body], paint)]
    for x in (-0.66, 0.68):
        parts += [Part(disc(x, 0.31, 0.31), _TYRE), Part(disc(x, 0.31, 0.16), _METAL, solid=False)]
    return [
        *parts,
        Part(limb((0.68, 0.31), (0.42, 1.08), 0.09, 0.07), _METAL),
        Part(box(-0.35, 0.28, 0.2, 0.58), dark),
        Part(limb((-0.75, 0.85), (-0.05, 0.84), 0.12, 0.14), (34, 30, 30)),
        Part([(0.3, 1.08, 0.0), (0.52, 1.14, 0.0)], dark, width=0.06),
        Part(disc(0.6, 0.9, 0.09), (238, 232, 210), glow=True),
    ]


def rider(rng: Random, *, side_view: bool, seat: float = 0.95) -> list[Part]:
    """The person on a cycle whose saddle is `seat` metres high."""
    top, legs = any_colour(rng), any_colour(rng, 20, 130)
    if not side_view:
        parts = []
        for side in (-1, 1):
            parts.append(Part(limb((side * 0.1, seat), (side * 0.16, 0.55), 0.18, 0.14), legs))
            parts.append(Part(limb((side * 0.16, 0.55), (side * 0.12, 0.2), 0.14, 0.1), shade(legs, 0.85)))
            parts.append(Part(limb((side * 0.2, seat + 0.5), (side * 0.3, 1.08), 0.12, 0.09), shade(top, 0.85)))
        torso = [
            (-0.17, seat - 0.05, 0.0),
            (0.17, seat - 0.05, 0.0),
            (0.23, seat + 0.52, 0.0),
            (-0.23, seat + 0.52, 0.0),
        ]
        return [*parts, Part(torso, top), *_head(rng, 0.0, seat + 0.72, 0.13, helmet=rng.random() < 0.7)]
    hip, neck = (-0.16, seat), (rng.uniform(0.05, 0.22), seat + 0.5)
    crank = rng.uniform(-0.15, 0.15)
    parts = []
    for foot, light in (((-crank, 0.32 - crank), 0.75), ((crank, 0.32 + crank), 1.0)):
        knee = (0.2 + foot[0] * 0.4, (seat + foot[1]) / 2 + 0.1)
        parts.append(Part(limb(hip, knee, 0.19, 0.14), shade(legs, light)))
        parts.append(Part(limb(knee, foot, 0.14, 0.09), shade(legs, light * 0.95)))
        parts.append(Part(box(foot[0] - 0.06, foot[1] - 0.05, foot[0] + 0.16, foot[1] + 0.03), (40, 38, 38)))
    parts.append(Part(limb(hip, neck, 0.27, 0.3), top))
    parts.append(Part(limb((neck[0], neck[1] - 0.06), (0.44, 1.08), 0.13, 0.08), shade(top, 0.8)))
    return [*parts, *_head(rng, neck[0] + 0.07, neck[1] + 0.22, 0.125, helmet=rng.random() < 0.7)]


def _blob(rng: Random, x: float, y: float, rx: float, ry: float, rough: float) -> list[Point]:
    radii = (1 + rough * (2 * rng.random() - 1) for _ in _CIRCLE)
    return [(x + rx * k * c, y + ry * k * s, 0.0) for (c, s), k in zip(_CIRCLE, radii, strict=True)]


def tree(rng: Random, leaf: Colour) -> list[Part]:
    """A tree with a trunk: round, slender or a conifer."""
    h, trunk = rng.uniform(4.5, 10.0), tint(rng, (84, 66, 52), 12)
    clear, wide = rng.uniform(0.2, 0.4) * h, rng.uniform(0.22, 0.42) * h
    parts = [Part(limb((0.0, 0.0), (rng.uniform(-0.2, 0.2), clear + 0.25 * h), 0.05 * h, 0.03 * h), trunk)]
    if rng.random() < 0.2:
        for step in range(4):
            y, half = clear * 0.5 + step * 0.19 * h, wide * (0.9 - 0.2 * step)
            parts.append(
                Part([(-half, y, 0.0), (half, y, 0.0), (0.0, y + 0.36 * h, 0.0)], shade(leaf, 0.7 + 0.09 * step))
            )
        return parts
    middle = (clear + h) / 2
    parts.append(Part(_blob(rng, 0.0, middle, wide, (h - clear) / 2, 0.16), leaf))
    for _ in range(5):
        x, y = rng.uniform(-0.6, 0.6) * wide, middle + rng.uniform(-0.35, 0.35) * (h - clear)
        light = 0.78 + 0.5 * (y - clear) / (h - clear) * rng.uniform(0.8, 1.1)
        parts.append(Part(_blob(rng, x, y, wide * 0.36, wide * 0.3, 0.3), shade(leaf, light), solid=False))
    return parts


def bush(rng: Random, leaf: Colour) -> list[Part]:
    """A bush or a piece of hedge."""
    wide, high = rng.uniform(0.6, 1.8), rng.uniform(0.35, 0.7)
    parts = [Part(_blob(rng, 0.0, high * 0.8, wide, high, 0.14), leaf)]
    for _ in range(4):
        x, y = rng.uniform(-0.6, 0.6) * wide, rng.uniform(0.3, 1.3) * high
        parts.append(
            Part(_blob(rng, x, y, high * 0.5, high * 0.4, 0.3), shade(leaf, rng.uniform(0.75, 1.3)), solid=False)
        )
    return parts


def lamp_post(rng: Random, height: float) -> list[Part]:
    """A street lamp; as in Cityscapes it counts as a pole."""
    metal = tint(rng, rng.choice(((70, 74, 76), (140, 142, 142), (60, 72, 62))), 10)
    reach = rng.choice((-1, 1)) * rng.uniform(0.6, 1.4)
    return [
        Part(limb((0.0, 0.0), (0.0, height), 0.2, 0.12), metal),
        Part([(0.0, height - 0.1, 0.0), (reach, height, 0.0)], metal, width=0.1),
        Part(box(reach - 0.3, height - 0.08, reach + 0.3, height + 0.1), (214, 206, 186), glow=True),
    ]


def post(rng: Random, height: float) -> list[Part]:
    """A bare pole, as under a sign or a traffic light."""
    return [Part(limb((0.0, 0.0), (0.0, height), 0.15, 0.13), tint(rng, (116, 118, 118), 18))]


def traffic_light(rng: Random, height: float) -> list[Part]:
    """The box of a traffic light whose top is `height` metres up; one lamp shines."""
    case, lit = tint(rng, (38, 42, 42), 6), rng.randrange(3)
    lamps: tuple[Colour, ...] = ((255, 52, 40), (255, 186, 40), (60, 236, 130))
    parts = [Part(box(-0.24, height - 1.2, 0.24, height), case)]
    for row, lamp in enumerate(lamps):
        colour = lamp if row == lit else shade(lamp, 0.22)
        spot = disc(0.0, height - 0.24 - 0.36 * row, 0.15)
        parts.append(Part(spot, colour, solid=False, glow=row == lit))
    return parts


def traffic_sign(rng: Random, height: float) -> list[Part]:
    """A sign with its top `height` metres up: round, triangular, octagonal, square or a direction board."""
    form, size = rng.randrange(5), rng.uniform(0.42, 0.6)
    red, blue, white = tint(rng, (196, 34, 36), 8), tint(rng, (30, 84, 170), 10), tint(rng, (232, 232, 228), 6)
    y = height - size
    if form == 0:
        rim, field = (red, white) if rng.random() < 0.6 else (blue, blue)
        return [Part(disc(0.0, y, size), rim), Part(disc(0.0, y, size * 0.76), field), _symbol(rng, y, size * 0.4)]
    if form == 1:
        outer = [(-size, y - size * 0.8, 0.0), (size, y - size * 0.8, 0.0), (0.0, y + size, 0.0)]
        inner = [(0.68 * px, y - 0.12 * size + 0.66 * (py - y), 0.0) for px, py, _ in outer]
        return [Part(outer, red), Part(inner, white), _symbol(rng, y - 0.3 * size, size * 0.24)]
    if form == 2:
        corners = [(math.cos(0.393 + k * 0.7854), math.sin(0.393 + k * 0.7854)) for k in range(8)]
        bar = Part(box(-0.6 * size, y - 0.14 * size, 0.6 * size, y + 0.14 * size), white)
        return [Part([(size * c, y + size * s, 0.0) for c, s in corners], red), bar]
    wide = size if form == 3 else size * rng.uniform(1.8, 2.6)
    ground = blue if form == 3 else rng.choice((blue, tint(rng, (28, 112, 74), 8), tint(rng, (226, 186, 40), 8)))
    board = [Part(box(-wide, y - size, wide, y + size), white)]
    board.append(Part(box(-wide * 0.93, y - size * 0.9, wide * 0.93, y + size * 0.9), ground))
    for row in (-0.4, 0.1, 0.55)[: 1 + rng.randrange(3)]:
        end = rng.uniform(-0.1, 0.75) * wide
        board.append(Part(box(-0.75 * wide, y + row * size, end, y + (row + 0.22) * size), white, solid=False))
    return board


def _symbol(rng: Random, y: float, size: float) -> Part:
    dark = tint(rng, (30, 30, 34), 8)
    if rng.random() < 0.5:
        return Part(box(-size, y - size * 0.3, size, y + size * 0.3), dark, solid=False)
    return Part(limb((-size * 0.7, y - size), (size * 0.7, y + size), size * 0.5, size * 0.5), dark, solid=False)


def bin_or_box(rng: Random) -> list[Part]:
    """A litter bin, a switch box or a poster: fixed things that Cityscapes calls static."""
    wide, high = rng.uniform(0.25, 0.7), rng.uniform(0.8, 1.9)
    paint = any_colour(rng)
    parts = [Part(box(-wide, 0.0, wide, high), paint)]
    for _ in range(3):
        x, y = rng.uniform(-0.7, 0.2) * wide, rng.uniform(0.2, 0.7) * high
        parts.append(Part(box(x, y, x + 0.6 * wide, y + 0.2 * high), any_colour(rng), solid=False))
    return parts
