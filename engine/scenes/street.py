"""A generated street as a place: camera, ground, the end of the view, and the houses, all in metres.

The camera looks along z from height `Camera.height` above the origin; x is to its right, y up, the ground is y = 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from engine.scenes.shapes import Colour, Part, Point, any_colour, shade, tint

_FAR = 400.0  # metres at which the ground meets the horizon


@dataclass(frozen=True)
class Camera:
    """A pinhole that looks horizontally along the street.

    Attributes:
        size_hw: height and width of the picture in pixels.
        focal: focal length in pixels.
        centre_x: column of the vanishing point.
        horizon: row of the horizon.
        height: metres above the ground.
    """

    size_hw: tuple[int, int]
    focal: float
    centre_x: float
    horizon: float
    height: float

    @property
    def nearest(self) -> float:
        """Distance in metres of the ground at the lower edge of the picture."""
        return self.focal * self.height / (self.size_hw[0] - self.horizon)

    def column(self, x: float, z: float) -> float:
        """Picture column of a point x metres to the right and z metres ahead."""
        return self.centre_x + self.focal * x / z


@dataclass(frozen=True)
class Facade:
    """Windows of a house: one wall runs along the street at `wall_x`, the other faces the camera at `near`."""

    wall_x: float
    near: float
    height: float
    pitch: tuple[float, float]
    open_share: tuple[float, float]
    glass: Colour
    lit_share: float
    shop: Colour | None


@dataclass(frozen=True)
class Placed:
    """An object in its place; the objects of a street are listed in painting order.

    Attributes:
        label: its Cityscapes name.
        parts: its pieces in its own frame.
        x: metres to the right of the camera.
        z: metres ahead.
        yaw: turn about the vertical in radians; 0 looks away from the camera.
        group: whether it is several objects of one class that cannot be told apart.
        facade: its windows, for a house.
        flat: whether it lies on the ground, so that its distance changes from row to row.
        footprint: half the extent in x and z of the ground that it covers, in metres; 0 casts no shadow.
    """

    label: str
    parts: list[Part]
    x: float = 0.0
    z: float = 0.0
    yaw: float = 0.0
    group: bool = False
    facade: Facade | None = None
    flat: bool = False
    footprint: tuple[float, float] = (0.0, 0.0)


@dataclass
class Street:
    """Sizes of the street and the places that are taken already."""

    rng: Random
    camera: Camera
    left: float
    right: float
    walks: tuple[float, float]
    verges: tuple[float, float]
    crossing: tuple[float, float] | None
    dusk: bool
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def house_line(self, side: int) -> float:
        """X of the houses on the left (-1) or right (1)."""
        walk, verge = self.walks[side > 0], self.verges[side > 0]
        return self.right + walk + verge if side > 0 else self.left - walk - verge

    def walk_x(self, side: int) -> float:
        """A random x on a sidewalk."""
        share = self.rng.uniform(0.15, 0.85)
        return self.right + share * self.walks[1] if side > 0 else self.left - share * self.walks[0]

    def distance(self, near: float, far: float) -> float:
        """A random distance, with equally many objects in every octave, near or far."""
        low = max(near, self.camera.nearest * 1.05)
        return low * math.pow(max(far, low * 1.5) / low, self.rng.random())

    def take(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        """Take a rectangle of the ground if it is free and in view."""
        column = self.camera.column(x, z)
        margin = 0.06 * self.camera.size_hw[1]
        if not -margin < column < self.camera.size_hw[1] + margin:
            return False
        for ox, oz, half_ox, half_oz in self.taken:
            if abs(x - ox) < half_x + half_ox and abs(z - oz) < half_z + half_oz:
                return False
        self.taken.append((x, z, half_x, half_z))
        return True


def _strip(x0: float, x1: float, z0: float, z1: float) -> list[Point]:
    return [(x0, 0.0, z0), (x1, 0.0, z0), (x1, 0.0, z1), (x0, 0.0, z1)]


def ground(street: Street) -> Iterator[Placed]:
    """Sky, open ground, sidewalks with their curbs, and the road with its markings."""
    rng, camera, near = street.rng, street.camera, street.camera.nearest * 0.9
    wide = 3.0 * max(camera.centre_x, camera.size_hw[1] - camera.centre_x) / camera.focal
    sky = [(-wide * _FAR, 1.5 * _FAR, _FAR), (wide * _FAR, 1.5 * _FAR, _FAR)]
    # The sky reaches a little below the horizon, so that no row between it and the ground stays empty.
    yield Placed("sky", [Part([*sky, (wide * _FAR, -4.0, _FAR), (-wide * _FAR, -4.0, _FAR)], None)], z=0.0)
    base = rng.choice(("terrain", "terrain", "sidewalk"))
    colours: dict[str, Colour] = {"terrain": (104, 106, 66), "sidewalk": (140, 136, 130)}
    base_part = Part([(-wide * near, 0, near), (wide * near, 0, near), (wide * _FAR, 0, _FAR), (-wide * _FAR, 0, _FAR)],
                     tint(rng, colours[base], 16))  # fmt: skip
    yield Placed(base, [base_part], flat=True)
    paving = tint(rng, (146, 142, 138), 18)
    for x0, x1 in ((street.left - street.walks[0], street.left), (street.right, street.right + street.walks[1])):
        parts = [Part(_strip(x0, x1, near, _FAR), paving)]
        seams = [near + 1.6 * k * (1 + 0.12 * k) for k in range(14)]
        parts += [Part([(x0, 0, z), (x1, 0, z)], shade(paving, 0.86), 0.05, solid=False) for z in seams]
        curb = x1 if x1 == street.left else x0
        parts.append(Part(_strip(curb - 0.12, curb + 0.12, near, _FAR), shade(paving, 1.2), solid=False))
        yield Placed("sidewalk", parts, flat=True)
    yield from _road(street, near)


def _road(street: Street, near: float) -> Iterator[Placed]:
    rng, left, right = street.rng, street.left, street.right
    asphalt, paint = tint(rng, (92, 92, 95), 20), tint(rng, (206, 204, 196), 14)
    parts = [Part(_strip(left, right, near, _FAR), asphalt)]
    if street.crossing:
        z0, z1 = street.crossing
        yield Placed("road", [Part(_strip(-60, 60, z0, z1), shade(asphalt, 0.97))], flat=True)
    for _ in range(rng.randrange(5)):
        x, z, size = rng.uniform(left, right), rng.uniform(near, 25), rng.uniform(0.3, 1.6)
        patch = _strip(max(left, x - size), min(right, x + size), z, z + size * rng.uniform(0.6, 4))
        parts.append(Part(patch, shade(asphalt, rng.uniform(0.72, 1.16)), solid=False))
    lanes = max(1, round((right - left) / 3.3))
    for lane in range(1, lanes):
        x = left + lane * (right - left) / lanes
        dash, gap = (3.0, rng.uniform(3, 6)) if lane % 2 or rng.random() < 0.6 else (80.0, 0.1)
        z = near + rng.uniform(0, 4)
        while z < 75:
            parts.append(Part(_strip(x - 0.07, x + 0.07, z, z + dash), paint, solid=False))
            z += dash + gap
    if street.crossing and rng.random() < 0.7:
        z = street.crossing[0] - 3.4
        count = int((right - left) / 1.0)
        stripes = [left + 0.5 + k for k in range(count)]
        parts += [Part(_strip(x - 0.25, x + 0.25, z, z + 2.6), paint, solid=False) for x in stripes]
    yield Placed("road", parts, flat=True)


def backdrop(street: Street, leaf: Colour) -> Iterator[Placed]:
    """What closes the view at the end of the street."""
    rng, camera = street.rng, street.camera
    z = rng.uniform(130, 220)
    reach = 1.2 * z * camera.size_hw[1] / camera.focal
    for label in rng.sample(("vegetation", "building", "vegetation"), 2):
        x, top = -reach, rng.uniform(6, 16)
        line = [(-reach, 0.0, 0.0)]
        while x < reach:
            step = rng.uniform(2, 5) if label == "vegetation" else rng.uniform(9, 24)
            y = top * rng.uniform(0.75, 1.25)
            line += [(x, y, 0.0)] if label == "vegetation" else [(x, y, 0.0), (x + step, y, 0.0)]
            x += step
        colour = shade(leaf, 0.9) if label == "vegetation" else tint(rng, (142, 136, 130), 20)
        yield Placed(label, [Part([*line, (reach, 0.0, 0.0)], colour)], z=z)
        z *= 0.85


def houses(street: Street) -> Iterator[Placed]:
    """Houses along both sides, farthest first, and sometimes a fence or a wall before them."""
    rng, built = street.rng, []
    walls: tuple[Colour, ...] = (
        (176, 158, 128), (142, 82, 66), (150, 150, 148), (196, 176, 120), (206, 202, 194), (96, 88, 84),
        (168, 126, 104), (124, 134, 142),
    )  # fmt: skip
    for side in (-1, 1):
        line, dense = street.house_line(side), rng.random() < 0.65
        z = rng.uniform(1.0, 9.0)
        while z < 110:
            length = rng.uniform(7, 22)
            crossed = street.crossing and z < street.crossing[1] + 2 and z + length > street.crossing[0] - 2
            if crossed and street.crossing:
                z = street.crossing[1] + rng.uniform(2, 4)
                continue
            if rng.random() < (0.93 if dense else 0.5):
                built.append(_house(street, side, line, z, length, tint(rng, rng.choice(walls), 14)))
            z += length + (rng.choice((0.0, 0.0, 3.0)) if dense else rng.uniform(2, 9))
    yield from sorted(built, key=lambda house: -house.z)
    if rng.random() < 0.3:
        yield _railing(street)


def _house(street: Street, side: int, line: float, z: float, length: float, wall: Colour) -> Placed:
    rng, deep = street.rng, street.rng.uniform(6, 14)
    tall = rng.uniform(5, 20)
    along = [(0.0, 0.0, 0.0), (0.0, 0.0, length), (0.0, tall, length), (0.0, tall, 0.0)]
    facing = [(0.0, 0.0, 0.0), (side * deep, 0.0, 0.0), (side * deep, tall, 0.0), (0.0, tall, 0.0)]
    light = 1.06 if side < 0 else 0.88
    parts = [Part(facing, shade(wall, 0.8)), Part(along, shade(wall, light))]
    if tall < 9 and rng.random() < 0.6:  # a pitched roof over a low house
        ridge, roof = tall + rng.uniform(1.5, 3), tint(rng, rng.choice(((120, 62, 50), (74, 70, 72))), 10)
        slope = [(0.0, tall, 0.0), (0.0, tall, length), (side * deep / 2, ridge, length), (side * deep / 2, ridge, 0.0)]
        parts += [Part([(0.0, tall, 0.0), (side * deep, tall, 0.0), (side * deep / 2, ridge, 0.0)], shade(wall, 0.8)),
                  Part(slope, roof)]  # fmt: skip
    facade = Facade(
        wall_x=line,
        near=z,
        height=tall,
        pitch=(rng.uniform(1.6, 3.6), rng.uniform(2.7, 3.6)),
        open_share=(rng.uniform(0.35, 0.7), rng.uniform(0.4, 0.65)),
        glass=tint(rng, (64, 72, 84), 14),
        lit_share=rng.uniform(0.15, 0.6) if street.dusk else 0.02,
        shop=any_colour(rng, 60, 210) if rng.random() < 0.45 else None,
    )
    return Placed("building", parts, line, z, facade=facade)


def _railing(street: Street) -> Placed:
    """A fence or a wall along the outer edge of a sidewalk."""
    rng, side = street.rng, street.rng.choice((-1, 1))
    x = street.house_line(side) - side * 0.25
    z, length, tall = rng.uniform(4, 14), rng.uniform(6, 20), rng.uniform(0.9, 1.6)
    quad: list[Point] = [(0.0, 0.0, 0.0), (0.0, 0.0, length), (0.0, tall, length), (0.0, tall, 0.0)]
    if rng.random() < 0.4:
        return Placed("wall", [Part(quad, tint(rng, (150, 140, 128), 20))], x, z)
    metal, pitch = tint(rng, (70, 74, 76), 20), rng.uniform(0.35, 0.7)
    parts = [Part(quad, None)]
    parts += [Part([(0, y * tall, 0), (0, y * tall, length)], metal, 0.06, solid=False) for y in (0.12, 0.95)]
    bars = [k * pitch for k in range(int(length / pitch))]
    parts += [Part([(0, 0, s), (0, tall, s)], metal, 0.04, solid=False) for s in bars]
    return Placed("fence", parts, x, z)
