"""The table of the family: parameters, multiply-accumulates, published top-1, and the time on this device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch

from backbones import networks
from backbones.networks import resolve_name
from backbones.published import PUBLISHED, Figure, Published, find
from backbones.scaling import read_scaled_name
from backbones.study.cost import Cost, count
from backbones.study.latency import Latency, measure
from backbones.study.text_tables import comma_separated
from engine.outputs import write_text


@dataclass(frozen=True)
class Row:
    """One network of the table.

    Attributes:
        name: timm's name, or that of a scaled network.
        image_size: side in pixels of the images for which cost and latency hold.
        cost: cost, counted on the network itself.
        published: the figures of the authors, if the network is one of theirs.
        at_published: MACs counted at the image size of each published MAC figure, in their order.
        latency: latency measured on this device; None if it was not asked for.
    """

    name: str
    image_size: int
    cost: Cost
    published: Published | None = None
    at_published: tuple[int, ...] = ()
    latency: Latency | None = None

    def deviations(self) -> list[tuple[Figure, float]]:
        """Each published MAC figure, and the fraction by which the counted number is above it."""
        figures = self.published.macs_billions if self.published else ()
        return [
            (figure, macs / (figure.value * 1e9) - 1) for figure, macs in zip(figures, self.at_published, strict=True)
        ]


def rows(
    names: Sequence[str] = tuple(PUBLISHED),
    *,
    latency: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 5,
    progress: bool = False,
) -> list[Row]:
    """Count whole ImageNet classifiers, and time them if asked to.

    Args:
        names: `b0` ... `b7`, `lite0` ... `lite4`, `v2_s` ... `v2_l`, names that timm knows, or names of scaled
            networks such as `efficientnet_phi1.5`.
        latency: whether to time them.
        device: device of the timing.
        threads: CPU threads of the timing.
        rounds: rounds of the timing.
        progress: whether to show bars on a terminal.

    Raises:
        InputError: a name is unknown, or the device does not exist.
    """
    from tqdm import tqdm

    counted = [_counted(name) for name in tqdm(names, desc="count", leave=False, disable=None if progress else True)]
    if not latency:
        return counted
    pairs = [(networks.create_classifier(row.name), row.image_size) for row in counted]
    times = measure(pairs, device, threads=threads, rounds=rounds, progress=progress)
    return [
        Row(row.name, row.image_size, row.cost, row.published, row.at_published, time)
        for row, time in zip(counted, times, strict=True)
    ]


def image_size_of(name: str) -> int:
    """Side of a network's images: the published side, that of its φ, or the side at which timm evaluates it.

    Raises:
        InputError: the name is unknown.
    """
    if published := find(name):
        return published.image_size
    if scaled := read_scaled_name(name):
        return scaled.point.resolution
    configuration = timm.get_pretrained_cfg(resolve_name(name))
    size = configuration.test_input_size or configuration.input_size
    return int(size[-1])


def _counted(name: str) -> Row:
    published = find(name)
    timm_name = published.name if published else resolve_name(name)
    # On the meta device nothing is computed, so B7 takes no longer than B0.
    with torch.device("meta"):
        network = networks.create_classifier(timm_name)
    size = image_size_of(timm_name)
    costs = {size: count(network, (size, size))}
    for figure in published.macs_billions if published else ():
        if figure.image_size not in costs:
            costs[figure.image_size] = count(network, (figure.image_size, figure.image_size))
    at_published = tuple(costs[figure.image_size].macs for figure in (published.macs_billions if published else ()))
    return Row(timm_name, size, costs[size], published, at_published)


HEADER = ("network", "image", "parameters", "GMACs", "authors' GMACs", "torchvision's GMACs", "top-1 %")


def cells(row: Row) -> list[str]:
    """A row as texts under `HEADER`.

    A published MAC figure is followed by its image size, if this is not the row's, and by the fraction by which the
    counted number is above it.
    """
    deviations = row.deviations()
    authors = [_compared(figure, part, row) for figure, part in deviations if figure.source != "torchvision"]
    library = [_compared(figure, part, row) for figure, part in deviations if figure.source == "torchvision"]
    return [
        row.name,
        str(row.image_size),
        f"{row.cost.parameters:,}",
        f"{row.cost.macs / 1e9:.4f}",
        ", ".join(authors),
        ", ".join(library),
        f"{row.published.top1[0].value}" if row.published else "",
    ]


def timed_cells(row: Row) -> list[str]:
    """The same with the median and the fastest time in milliseconds."""
    assert row.latency is not None
    return [*cells(row), f"{row.latency.median_ms:.1f}", f"{row.latency.minimum_ms:.1f}"]


def _compared(figure: Figure, deviation: float, row: Row) -> str:
    size = f" at {figure.image_size}" if figure.image_size != row.image_size else ""
    return f"{figure.value:g}{size} ({deviation:+.2%})"


CSV_HEADER = (
    "name", "image_size", "parameters", "macs", "published_top1", "published_top1_source", "published_macs",
    "published_macs_sources", "published_macs_image_sizes", "latency_median_ms", "latency_min_ms",
)  # fmt: skip


def write_csv(path: str | Path, table: Sequence[Row]) -> None:
    """Write the rows; several published MAC figures of one network are separated by semicolons."""
    write_text(path, comma_separated(CSV_HEADER, [_csv_cells(row) for row in table]))


def _csv_cells(row: Row) -> list[object]:
    macs = row.published.macs_billions if row.published else ()
    top1 = row.published.top1[0] if row.published else None
    return [
        row.name,
        row.image_size,
        row.cost.parameters,
        row.cost.macs,
        top1.value if top1 else "",
        top1.source if top1 else "",
        ";".join(f"{round(figure.value * 1e9)}" for figure in macs),
        ";".join(figure.source for figure in macs),
        ";".join(str(figure.image_size) for figure in macs),
        f"{row.latency.median_ms:.3f}" if row.latency else "",
        f"{row.latency.minimum_ms:.3f}" if row.latency else "",
    ]
