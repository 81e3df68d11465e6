"""Cars, trucks, buses and trams of the generated streets: side profiles extruded to solids, seen from any side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Literal

from engine.scenes.shapes import Colour, Part, Point, any_colour, shade, tint

VehicleLabel = Literal["car", "truck", "bus", "train"]

_GLASS: Colour = (46, 56, 66)
_TYRE: Colour = (26, 26, 28)
_RIM = [(math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16)]
# The paints of European roads: mostly black, white and grey, the rest coloured.
_PAINTS: tuple[Colour, ...] = (
    (34, 35, 38), (52, 54, 58), (92, 95, 98), (128, 131, 134), (172, 174, 176), (222, 222, 220), (236, 236, 234),
    (150, 28, 30), (186, 44, 36), (30, 52, 110), (54, 92, 152), (36, 70, 56), (176, 160, 128), (204, 168, 40),
    (96, 62, 44), (112, 138, 158),
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """The position from which a vehicle is seen, in its own frame (x right, y up, z ahead), in metres."""

    x: float
    y: float
    z: float


@dataclass(frozen=True)
class _Body:
    """One extruded solid: a profile from the rear bottom over the roof to the front bottom.

    Attributes:
        profile: (z, y) corners in metres, z ahead.
        glass: which segments of the profile are panes.
        half: half the width in metres.
        belt: height in metres above which the sides lean inwards.
        lean: how much narrower the roof is, as a share of the half width.
        windows: (z, y) polygons of the side panes.
        paint: colour of the sheet metal.
    """

    profile: tuple[tuple[float, float], ...]
    glass: frozenset[int]
    half: float
    belt: float
    lean: float
    windows: tuple[tuple[tuple[float, float], ...], ...]
    paint: Colour

    def x_at(self, y: float) -> float:
        """Half the width at height y."""
        top = max(point[1] for point in self.profile)
        return self.half * (1 - self.lean * max(0.0, y - self.belt) / max(1e-6, top - self.belt))


# Side profiles as shares of length and height, the panes among their segments, and the corners of the side
# windows (rear bottom, rear top, front top, front bottom).
_CARS: dict[str, tuple[tuple[tuple[float, float], ...], tuple[int, ...], tuple[tuple[float, float], ...]]] = {
    "sedan": (
        ((-0.5, 0.2), (-0.5, 0.56), (-0.47, 0.66), (-0.33, 0.69), (-0.2, 0.97), (0.08, 1.0), (0.25, 0.67), (0.46, 0.57),
         (0.5, 0.46), (0.5, 0.2)),
        (3, 5), ((-0.29, 0.69), (-0.19, 0.93), (0.07, 0.95), (0.21, 0.67)),
    ),
    "hatchback": (
        ((-0.5, 0.2), (-0.5, 0.58), (-0.48, 0.66), (-0.38, 0.96), (0.06, 1.0), (0.26, 0.66), (0.46, 0.56), (0.5, 0.45),
         (0.5, 0.2)),
        (2, 4), ((-0.42, 0.67), (-0.35, 0.92), (0.05, 0.95), (0.22, 0.65)),
    ),
    "suv": (
        ((-0.5, 0.22), (-0.5, 0.6), (-0.48, 0.66), (-0.44, 0.97), (0.1, 1.0), (0.24, 0.68), (0.46, 0.62), (0.5, 0.5),
         (0.5, 0.22)),
        (2, 4), ((-0.44, 0.67), (-0.4, 0.93), (0.09, 0.95), (0.2, 0.67)),
    ),
    "van": (
        ((-0.5, 0.16), (-0.5, 0.56), (-0.49, 0.95), (-0.46, 1.0), (0.2, 1.0), (0.4, 0.6), (0.48, 0.52), (0.5, 0.4),
         (0.5, 0.16)),
        (1, 4), ((0.02, 0.6), (0.02, 0.92), (0.19, 0.93), (0.35, 0.6)),
    ),
}  # fmt: skip
_CAR_SIZES = {
    "sedan": (4.3, 4.9, 1.38, 1.5, 0.88), "hatchback": (3.6, 4.3, 1.44, 1.56, 0.86),
    "suv": (4.3, 4.8, 1.62, 1.8, 0.93), "van": (4.7, 5.9, 1.9, 2.4, 0.97),
}  # fmt: skip


def vehicle(rng: Random, label: VehicleLabel) -> tuple[float, float, list[_Body]]:
    """Choose a vehicle's form at random: its half width and length in metres, and its solids."""
    if label == "car":
        return _car(rng)
    if label == "truck":
        return _truck(rng)
    return _coach(rng, long=label == "train")


def _car(rng: Random) -> tuple[float, float, list[_Body]]:
    form = rng.choices(("sedan", "hatchback", "suv", "van"), (4, 5, 3, 1.5))[0]
    profile, glass, pane = _CARS[form]
    low, high, short, tall, half = _CAR_SIZES[form]
    length, height, half = rng.uniform(low, high), rng.uniform(short, tall), half * rng.uniform(0.96, 1.04)
    scaled = tuple((z * length, y * height) for z, y in profile)
    pillar, window = rng.uniform(-0.09, -0.03), [(z * length, y * height) for z, y in pane]
    rear, front = _split(window, pillar * length)
    paint = tint(rng, rng.choice(_PAINTS), 10)
    windows = (rear, front) if form != "van" else (tuple(window),)
    return half, length, [_Body(scaled, frozenset(glass), half, 0.66 * height, 0.2, windows, paint)]


def _split(window: list[tuple[float, float]], z: float) -> tuple[tuple[tuple[float, float], ...], ...]:
    (z0, y0), (z1, y1), (z2, y2), (z3, y3) = window
    return ((z0, y0), (z1, y1), (z - 0.05, y1), (z - 0.05, y0)), ((z + 0.05, y3), (z + 0.05, y2), (z2, y2), (z3, y3))


def _box_body(z0: float, z1: float, y0: float, y1: float, half: float, paint: Colour, glass: bool) -> _Body:
    belt = y0 + 0.5 * (y1 - y0)
    profile = ((z0, y0), (z0, belt), (z0, y1 - 0.05), (z0 + 0.05, y1), (z1 - 0.1, y1), (z1, belt), (z1, y0))
    return _Body(profile, frozenset({4} if glass else ()), half, y1 + 1, 0.0, (), paint)


def _truck(rng: Random) -> tuple[float, float, list[_Body]]:
    length, half, tall = rng.uniform(6.0, 9.0), rng.uniform(1.1, 1.28), rng.uniform(2.9, 3.7)
    cab = rng.uniform(1.7, 2.1)
    paint = tint(rng, rng.choice(_PAINTS), 12)
    cargo = tint(rng, rng.choice(((226, 226, 222), (196, 190, 176), (150, 154, 158))), 12)
    if rng.random() < 0.5:
        cargo = any_colour(rng, 50, 210)
    front = length / 2
    head = _box_body(front - cab, front, 0.45, rng.uniform(2.3, 2.7), half * 0.96, paint, glass=True)
    pane = ((front - cab + 0.5, 1.5), (front - cab + 0.5, 2.1), (front - 0.25, 2.1), (front - 0.1, 1.5))
    head = _Body(head.profile, head.glass, head.half, head.belt, 0.0, (pane,), paint)
    return half, length, [_box_body(-front, front - cab - 0.15, 0.75, tall, half, cargo, glass=False), head]


def _coach(rng: Random, *, long: bool) -> tuple[float, float, list[_Body]]:
    length = rng.uniform(14, 22) if long else rng.uniform(8.5, 12)
    half, tall, floor = 1.25, rng.uniform(2.9, 3.4), 0.25 if long else 0.35
    paint = tint(rng, rng.choice(_PAINTS), 12) if rng.random() < 0.4 else any_colour(rng, 60, 210)
    end, belt = length / 2, floor + 0.42 * (tall - floor)
    nose = 0.7 if long else 0.12
    profile = (
        (-end, floor), (-end, belt), (-end + nose * 0.6, tall - 0.3), (-end + nose, tall), (end - nose, tall),
        (end - nose * 0.6, tall - 0.3), (end, belt), (end, floor),
    )  # fmt: skip
    pitch = rng.uniform(1.2, 1.7)
    count = int((length - 2 * nose - 0.4) / pitch)
    low, high = belt, tall - 0.45
    start = -count * pitch / 2
    windows = tuple(
        ((z, low), (z, high), (z + pitch * 0.88, high), (z + pitch * 0.88, low))
        for z in (start + k * pitch for k in range(count))
    )
    return half, length, [_Body(profile, frozenset({1, 5}), half, tall + 1, 0.0, windows, paint)]


def paint_vehicle(rng: Random, label: VehicleLabel, length: float, bodies: list[_Body], view: View) -> list[Part]:
    """The parts of a vehicle that can be seen from `view`, farthest first, in its own frame."""
    half, rail = bodies[0].half, label == "train"
    parts = [] if rail else _wheels(label, half, length, view, behind=True)
    for body in sorted(bodies, key=lambda b: -abs(view.z - (b.profile[0][0] + b.profile[-1][0]) / 2)):
        parts += _body_parts(rng, body, view)
    parts += _end_details(rng, label, bodies, view)
    return parts if rail else parts + _wheels(label, half, length, view, behind=False)


def _body_parts(rng: Random, body: _Body, view: View) -> list[Part]:
    faces: list[tuple[float, list[Part]]] = []
    glass = tint(rng, _GLASS, 10)
    for k in range(len(body.profile) - 1):
        (z0, y0), (z1, y1) = body.profile[k], body.profile[k + 1]
        ahead, up = -(y1 - y0), z1 - z0  # the outward normal of a segment that runs from rear to front
        if ahead * (view.z - z0) + up * (view.y - y0) <= 0:
            continue
        size = math.hypot(ahead, up) or 1.0
        light = 0.82 + 0.3 * max(0.0, up / size) - (0.12 if up < 0 else 0.0)
        x0, x1 = body.x_at(y0), body.x_at(y1)
        quad = [(-x0, y0, z0), (-x1, y1, z1), (x1, y1, z1), (x0, y0, z0)]
        pieces = [Part(quad, shade(body.paint, light))]
        if k in body.glass:
            pane = [(x * 0.86, y + (0.06 if y == min(y0, y1) else -0.05), z) for x, y, z in quad]
            pieces.append(Part(pane, shade(glass, 1.35 if up > 0 else 1.0), solid=False))
            streak = [_mix(pane[0], pane[3], t) for t in (0.55, 0.72)] + [
                _mix(pane[1], pane[2], t) for t in (0.9, 0.78)
            ]
            pieces.append(Part(streak, shade(glass, 1.9), solid=False))
        faces.append((math.hypot(view.z - (z0 + z1) / 2, view.y - (y0 + y1) / 2), pieces))
    side = 1 if view.x > 0 else -1
    if abs(view.x) > body.half * 0.9:
        faces.append((abs(view.x - side * body.half), _side(body, side, glass)))
    faces.sort(key=lambda face: -face[0])
    return [part for _, pieces in faces for part in pieces]


def _mix(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def _side(body: _Body, side: int, glass: Colour) -> list[Part]:
    paint = shade(body.paint, 0.92 if side > 0 else 0.78)
    parts = [Part([(side * body.x_at(y), y, z) for z, y in body.profile], paint)]
    low = body.profile[0][1]
    z0, z1 = body.profile[0][0], body.profile[-1][0]
    sill = [(side * body.half, low, z0), (side * body.half, low, z1), (side * body.half, low + 0.12, z1)]
    parts.append(Part([*sill, (side * body.half, low + 0.12, z0)], shade(paint, 0.55), solid=False))
    for window in body.windows:
        parts.append(Part([(side * body.x_at(y), y, z) for z, y in window], glass, solid=False))
        z, top, bottom = window[-1][0] - 0.03, window[-1][1] - 0.04, low + 0.15
        seam = [(side * body.half, top, z), (side * body.half, bottom, z)]
        parts.append(Part(seam, shade(paint, 0.6), 0.025, solid=False))
    return parts


def _wheels(label: VehicleLabel, half: float, length: float, view: View, *, behind: bool) -> list[Part]:
    """Tyres seen below the body (`behind`), then the discs of the wheels on the side facing the viewer."""
    radius = 0.33 if label == "car" else 0.48
    parts: list[Part] = []
    for z in (-0.31 * length, 0.31 * length):
        for side in (-1, 1):
            outer, inner = side * half * 0.99, side * (half - 0.24)
            faces_viewer = side * view.x > half
            rim = [(outer, radius + radius * s, z + radius * c) for c, s in _RIM]
            if behind:
                tread = [(outer, 0, z), (inner, 0, z), (inner, 2 * radius, z), (outer, 2 * radius, z)]
                parts += [Part(tread, _TYRE), Part([(inner, y, zz) for _, y, zz in rim], _TYRE), Part(rim, _TYRE)]
            elif faces_viewer:
                hub = [(outer, radius + 0.6 * radius * s, z + 0.6 * radius * c) for c, s in _RIM]
                parts += [Part(rim, _TYRE), Part(hub, (142, 144, 148), solid=False)]
    return parts


def _end_details(rng: Random, label: VehicleLabel, bodies: list[_Body], view: View) -> list[Part]:
    """Lamps, plate and grille on the end that faces the viewer."""
    rear_body, front_body = bodies[0], bodies[-1]
    rear_seen, front_seen = view.z < rear_body.profile[0][0], view.z > front_body.profile[-1][0]
    if not (rear_seen or front_seen):
        return []
    body = rear_body if rear_seen else front_body
    z, low = (
        (body.profile[0][0] - 0.01, body.profile[0][1])
        if rear_seen
        else (body.profile[-1][0] + 0.01, body.profile[-1][1])
    )
    high = body.profile[1][1] if rear_seen else body.profile[-2][1]
    half, span = body.half, high - low
    lamp: Colour = (206, 32, 30) if rear_seen else (244, 240, 222)
    y0, y1 = low + 0.62 * span, low + 0.95 * span
    if label != "car":
        y0, y1 = low + 0.1 * span, low + 0.3 * span
    inner = half * rng.uniform(0.55, 0.7)

    def panel(x0: float, y_low: float, x1: float, y_high: float) -> list[Point]:
        return [(x0, y_low, z), (x1, y_low, z), (x1, y_high, z), (x0, y_high, z)]

    parts = [Part(panel(-half * 0.96, low, half * 0.96, low + 0.2 * span), shade(body.paint, 0.45), solid=False)]
    if front_seen:
        parts.append(
            Part(panel(-half * 0.5, low + 0.3 * span, half * 0.5, low + 0.75 * span), (36, 36, 38), solid=False)
        )
    parts += [Part(panel(s * inner, y0, s * half * 0.95, y1), lamp, solid=False, glow=True) for s in (-1, 1)]
    plate = panel(-0.26, low + 0.25 * span, 0.26, low + 0.25 * span + 0.12)
    return [*parts, Part(plate, (226, 226, 218), solid=False)]
