"""Images that are there twice: the same bytes, or nearly the same look, within a split and across splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from engine.checking.findings import Finding, Severity
from engine.checking.image_files import ImageFacts

NEAR_BITS = 4  # of 64; looks that differ in no more are of the same picture
# First bit and number of bits; of five bands, four differing bits spare one.
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))


def twins(names: Sequence[str], splits: Sequence[str], facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    """A finding for each image with a twin earlier in the order, across splits (leakage) before within.

    Args:
        names: files of the images.
        splits: split of each.
        facts: facts of each.
    """
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    by_band: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, fact in enumerate(facts):
        if fact.size_hw is None or fact.digest is None:
            continue
        earlier = by_digest[fact.digest]
        if earlier:
            yield _twin("duplicate", names, splits, place, earlier)
        elif fact.look is not None:
            bands = [(band, fact.look >> low & (1 << bits) - 1) for band, (low, bits) in enumerate(_BANDS)]
            near = {other for band in bands for other in by_band[band] if _bits(facts[other], fact) <= NEAR_BITS}
            if near:
                yield _twin("near_duplicate", names, splits, place, sorted(near))
            for band in bands:
                by_band[band].append(place)
        earlier.append(place)


def _bits(one: ImageFacts, other: ImageFacts) -> int:
    return ((one.look or 0) ^ (other.look or 0)).bit_count()


def _twin(kind: str, names: Sequence[str], splits: Sequence[str], place: int, earlier: Sequence[int]) -> Finding:
    across = [other for other in earlier if splits[other] != splits[place]]
    twin = (across or earlier)[0]
    if across:
        # Two frames of one street look alike and may yet be two pictures: a person has to look.
        severity: Severity = "error" if kind == "duplicate" else "warning"
        detail = f"{splits[place]} has it from {splits[twin]}: {names[twin]}"
        return Finding(f"leak.{kind}", severity, names[place], detail)
    return Finding(f"image.{kind}", "warning", names[place], f"is like {names[twin]}")
