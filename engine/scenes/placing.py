"""Everything of a generated street in its place: traffic, passers-by, furniture and plants between the houses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from engine.scenes.shapes import (
    Colour,
    bicycle,
    bin_or_box,
    bush,
    crowd,
    lamp_post,
    motorcycle,
    person,
    post,
    rider,
    tint,
    traffic_light,
    traffic_sign,
    tree,
)
from engine.scenes.street import Camera, Placed, Street, backdrop, ground, houses
from engine.scenes.vehicles import VehicleLabel, View, paint_vehicle, vehicle


def lay_out(rng: Random, size_hw: tuple[int, int], *, dusk: bool) -> tuple[Camera, list[Placed]]:
    """Choose a camera and a street at random, and put everything in its place, in painting order."""
    height, width = size_hw
    camera = Camera(
        size_hw,
        focal=min(size_hw) * rng.uniform(1.0, 1.7),
        centre_x=width * rng.uniform(0.4, 0.6),
        horizon=height * rng.uniform(0.34, 0.5),
        height=rng.uniform(1.3, 2.4),
    )
    start = rng.uniform(11, 28)
    street = Street(
        rng,
        camera,
        left=-rng.uniform(3.6, 8.5),
        right=rng.uniform(2.2, 5.5),
        walks=(rng.uniform(1.6, 4.5), rng.uniform(1.6, 4.5)),
        verges=(rng.choice((0.3, rng.uniform(1, 6))), rng.choice((0.3, rng.uniform(1, 6)))),
        crossing=(start, start + rng.uniform(6, 10)) if rng.random() < 0.5 else None,
        dusk=dusk,
    )
    leaf = tint(rng, rng.choice(((62, 84, 44), (84, 102, 52), (46, 66, 40), (122, 106, 50), (136, 84, 44))), 12)
    still = [*ground(street), *backdrop(street, leaf), *houses(street)]
    things = [*_traffic(street), *_people(street), *_furniture(street), *_plants(street, leaf)]
    return camera, still + _painting_order(things)


def _painting_order(things: list[Placed]) -> list[Placed]:
    """Put each object after those that it hides; sorted by distance alone, a person behind a tram could cover it."""
    things = sorted(things, key=lambda thing: -thing.z)
    ordered: list[Placed] = []
    visited = [False] * len(things)

    def visit(number: int) -> None:
        visited[number] = True
        for other, thing in enumerate(things):
            if not visited[other] and _is_hidden_by(thing, things[number]):
                visit(other)
        ordered.append(things[number])

    for number in range(len(things)):
        if not visited[number]:
            visit(number)
    return ordered


def _is_hidden_by(back: Placed, front: Placed) -> bool:
    """Whether `front` may cover `back`: a plane between their footprints has `front` on the camera's side."""
    (back_x, back_z), (front_x, front_z) = back.footprint, front.footprint
    if back.z - back_z >= front.z + front_z:
        return back.z > front.z
    if front.z - front_z >= back.z + back_z:
        return False
    if back.x - back_x >= front.x + front_x:
        return front.x + front_x > 0
    if front.x - front_x >= back.x + back_x:
        return front.x - front_x < 0
    return back.z > front.z


def _traffic(street: Street) -> Iterator[Placed]:
    rng = street.rng
    wanted: list[VehicleLabel] = ["car"] * rng.choice((1, 2, 3, 4, 4, 5, 6, 7, 8))
    rare: tuple[tuple[VehicleLabel, float], ...] = (("truck", 0.34), ("bus", 0.34), ("train", 0.2))
    wanted = [label for label, chance in rare if rng.random() < chance] + wanted
    for label in wanted:
        half, length, bodies = vehicle(rng, label)
        for _ in range(6):
            x, z, yaw = _berth(street, label, half, length)
            sine, cosine = math.sin(yaw), math.cos(yaw)
            half_x = abs(cosine) * half + abs(sine) * length / 2
            half_z = abs(sine) * half + abs(cosine) * length / 2
            if z - half_z < 2.5 or not street.take(x, z, half_x + 0.2, half_z + 0.5):
                continue
            # The camera in the frame of the vehicle.
            view = View(-x * cosine + z * sine, street.camera.height, -x * sine - z * cosine)
            parts = paint_vehicle(rng, label, length, bodies, view)
            yield Placed(label, parts, x, z, yaw, footprint=(half_x, half_z))
            break


def _berth(street: Street, label: str, half: float, length: float) -> tuple[float, float, float]:
    """A place to drive or park: x, z and yaw."""
    rng, big = street.rng, label != "car"
    jitter = rng.gauss(0.0, 0.04)
    kind = rng.random()
    if street.crossing and kind < (0.45 if big else 0.3):
        z = rng.uniform(street.crossing[0] + half, max(street.crossing[0] + half + 0.1, street.crossing[1] - half))
        return rng.uniform(-0.6, 0.6) * z, z, rng.choice((-1, 1)) * math.pi / 2 + jitter
    z = street.distance(4.6, 34) + length / 2 + (3.0 if big else 0.0)
    if kind < 0.42 and not big:  # turning or parked askew
        return rng.uniform(street.left + 1, street.right - 1), z, rng.uniform(-math.pi, math.pi)
    if kind < 0.62:
        return street.right - half - rng.uniform(0.15, 0.5), z, jitter
    if kind < 0.8:
        return street.left + half + rng.uniform(0.15, 0.5), z, math.pi + jitter
    if kind < 0.9:
        return street.left * 0.5, z, math.pi + jitter
    return rng.uniform(-0.6, 0.6), z, jitter


def _people(street: Street) -> Iterator[Placed]:
    rng = street.rng
    for _ in range(rng.choice((1, 2, 3, 3, 4, 5, 6, 8))):
        z = street.distance(4.2, 26)
        x = rng.uniform(street.left, street.right) if rng.random() < 0.22 else street.walk_x(rng.choice((-1, 1)))
        if street.take(x, z, 0.3, 0.3):
            yield Placed("person", person(rng), x, z, footprint=(0.3, 0.25))
    if rng.random() < 0.14:
        x, z = street.walk_x(rng.choice((-1, 1))), street.distance(9, 26)
        if street.take(x, z, 1.2, 0.5):
            yield Placed("person", crowd(rng, rng.randint(3, 6)), x, z, group=True, footprint=(1.2, 0.4))
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
        yield from _cycle(street)


def _cycle(street: Street) -> Iterator[Placed]:
    """A bicycle or motorcycle, parked or with its rider."""
    rng = street.rng
    motor, ridden, side_view = rng.random() < 0.4, rng.random() < 0.65, rng.random() < 0.65
    label = "motorcycle" if motor else "bicycle"
    z = street.distance(4.6, 20)
    x = rng.uniform(street.left + 0.6, street.right - 0.6) if ridden else street.walk_x(rng.choice((-1, 1)))
    if not street.take(x, z, 0.9 if side_view else 0.4, 0.5):
        return
    # A turn of more than a right angle mirrors the flat shape, so that it heads the other way.
    yaw = (rng.uniform(-0.6, 0.6) + rng.choice((0.0, math.pi))) if side_view else 0.0
    machine = motorcycle(rng, side_view=side_view) if motor else bicycle(rng, side_view=side_view)
    yield Placed(label, machine, x, z, yaw, footprint=(0.8 if side_view else 0.3, 0.2))
    if ridden:
        body = rider(rng, side_view=side_view, seat=0.86 if motor else 0.95)
        yield Placed("rider", body, x, z - 0.01, yaw)


def _furniture(street: Street) -> Iterator[Placed]:
    rng = street.rng
    for _ in range(rng.randint(1, 4)):
        side, z = rng.choice((-1, 1)), street.distance(6, 60)
        x = street.right + 0.5 if side > 0 else street.left - 0.5
        if street.take(x, z, 0.3, 1.0):
            yield Placed("pole", lamp_post(rng, rng.uniform(5, 9)), x, z)
    corner = street.crossing[0] - 0.8 if street.crossing else 0.0
    lights = rng.randint(1, 3) if street.crossing else int(rng.random() < 0.2)
    heads = [
        ("traffic light", corner + rng.uniform(-2, 0.5) if corner else street.distance(7, 20)) for _ in range(lights)
    ]
    heads += [("traffic sign", street.distance(5, 24)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    for label, z in heads:
        side, top = rng.choice((-1, 1)), rng.uniform(2.6, 3.6)
        x = street.right + rng.uniform(0.3, 0.9) if side > 0 else street.left - rng.uniform(0.3, 0.9)
        if street.take(x, z, 0.4, 0.4):
            yield Placed("pole", post(rng, top), x, z)
            head = traffic_light(rng, top + 0.1) if label == "traffic light" else traffic_sign(rng, top + 0.1)
            yield Placed(label, head, x, z - 0.02)
    for _ in range(rng.choice((0, 0, 1, 2))):
        x, z = street.walk_x(rng.choice((-1, 1))), street.distance(5, 25)
        if street.take(x, z, 0.7, 0.4):
            yield Placed("static", bin_or_box(rng), x, z, footprint=(0.6, 0.3))


def _plants(street: Street, leaf: Colour) -> Iterator[Placed]:
    rng = street.rng
    for side in (-1, 1):
        if rng.random() < 0.6:
            z, pitch = rng.uniform(7, 14), rng.uniform(7, 15)
            x = street.house_line(side) - side * (0.3 + 0.5 * street.verges[side > 0])
            while z < 70:
                if street.take(x, z, 0.5, 0.5):
                    yield Placed("vegetation", tree(rng, tint(rng, leaf, 10)), x + rng.uniform(-0.4, 0.4), z)
                z += pitch * rng.uniform(0.8, 1.3)
    for _ in range(rng.randrange(4)):
        side, z = rng.choice((-1, 1)), street.distance(6, 40)
        x = street.house_line(side) - side * rng.uniform(0.0, 0.6)
        if street.take(x, z, 1.0, 0.5):
            yield Placed("vegetation", bush(rng, tint(rng, leaf, 10)), x, z)
