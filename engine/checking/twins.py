"""Images that are there twice: the same bytes, or nearly the same look, within a split and across splits."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.checking.findings import Finding, Severity
from engine.checking.image_files import ImageFacts

NEAR_BITS = 4  # of 64; looks that differ in no more are of the same picture
# First bit and number of bits; of five bands, four differing bits spare one.
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
_MOST_ALIKE = 200  # looks with a common band that are compared; without a limit a set of slides would take hours


class Twin(NamedTuple):
    """An image with a twin.

    Attributes:
        place: the image.
        other: its twin, which stands earlier in the order.
        exact: whether their bytes are the same; else they look alike.
        across: whether they are in two splits.
    """

    place: int
    other: int
    exact: bool
    across: bool


def find_twins(splits: Sequence[str], facts: Sequence[ImageFacts]) -> Iterator[Twin]:
    """Each image with a twin earlier in the order; one in another split comes before one in its own.

    Args:
        splits: split of each image.
        facts: facts of each.
    """
    # The first image of each split, so that many copies of one picture cost no more than one.
    by_digest: dict[bytes, dict[str, int]] = defaultdict(dict)
    by_look: dict[int, dict[str, int]] = defaultdict(dict)
    by_band: dict[tuple[int, int], deque[int]] = defaultdict(lambda: deque(maxlen=_MOST_ALIKE))
    for place, fact in enumerate(facts):
        if fact.size_hw is None or fact.digest is None:
            continue
        split, same = splits[place], by_digest[fact.digest]
        if same:
            yield _twin(place, split, [same], exact=True)
        elif fact.look is not None:
            look = fact.look
            bands = [(band, look >> low & (1 << bits) - 1) for band, (low, bits) in enumerate(_BANDS)]
            alike = {other for band in bands for other in by_band[band] if (other ^ look).bit_count() <= NEAR_BITS}
            if alike:
                yield _twin(place, split, [by_look[other] for other in alike], exact=False)
            if look not in by_look:
                for band in bands:
                    by_band[band].append(look)
            by_look[look].setdefault(split, place)
        same.setdefault(split, place)


def _twin(place: int, split: str, firsts: Sequence[Mapping[str, int]], *, exact: bool) -> Twin:
    """The first earlier image of another split, or else of the own one.

    Args:
        place: the image.
        split: its split.
        firsts: the first images like it by split, of each picture that is like it.
        exact: whether their bytes are the same.
    """
    across = min((other for first in firsts for own, other in first.items() if own != split), default=None)
    own = min(other for first in firsts for other in first.values())
    return Twin(place, own if across is None else across, exact, across is not None)


def twin_findings(names: Sequence[str], splits: Sequence[str], twins: Sequence[Twin]) -> Iterator[Finding]:
    """A finding for each image with a twin; across splits it is leakage.

    Args:
        names: files of the images.
        splits: split of each.
        twins: the images that have one.
    """
    for twin in twins:
        kind = "duplicate" if twin.exact else "near_duplicate"
        name, other = names[twin.place], names[twin.other]
        if twin.across:
            # Two frames of one street look alike and may yet be two pictures: a person has to look.
            severity: Severity = "error" if twin.exact else "warning"
            detail = f"{splits[twin.place]} has it from {splits[twin.other]}: {other}"
            yield Finding(f"leak.{kind}", severity, name, detail, twin=other)
        else:
            yield Finding(f"image.{kind}", "warning", name, f"is like {other}", twin=other)
