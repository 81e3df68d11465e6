"""`python -m detection check`: what is wrong with a set of boxes, by name and file.

The set is a folder, `check MYSET`, or is given as to fit, by --config and by --data.…
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from detection.checking.fix import fix_boxes
from detection.checking.given import BoxData, apart, sources_of
from detection.checking.read_set import ReadBoxes
from detection.data.boxes import BoxSource
from detection.formats.found import FormatWord, read_set
from detection.formats.writers.choice import Target
from detection.network.family import DetectorArchitecture, architecture
from detection.spec import SPEC
from engine.annotations.files import BrokenRow
from engine.checking.asked import Asked
from engine.checking.command import CheckCommand
from engine.checking.findings import CheckReport, Finding
from engine.checking.given import left_out, row_findings
from engine.checking.images import image_findings
from engine.checking.pictures import draw_finding
from engine.cli.given.data import GivenData
from engine.errors import InputError
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.listing import walk
from engine.reading.reader import PixelReader

MEMBER = "d0"  # as fit takes it where nothing is said
_NO_LABELS = ("classes", "train", "val", "valid", "test", "notes")  # texts that tools lay beside labels
_SAME_FORMAT: Mapping[str, Target] = {"COCO": "coco", "Pascal VOC": "voc", "YOLO": "yolo"}


def check(
    root: str | Path,
    format: FormatWord | None = None,
    image_size: int | None = None,
    member: str = MEMBER,
    fix_to: Target | None = None,
    asked: Asked = Asked(),
) -> CheckReport:
    """Read a whole set once, and tell what is wrong with it.

    Args:
        root: the folder of the set.
        format: its format, where the folder holds several; null recognises it.
        image_size: side of the canvas in training, in pixels, which decides what is tiny; null takes the member's.
        member: the family member whose anchors are looked at.
        fix_to: format of the cleaned copy; null takes that of the set where it is one that is written, else COCO.
        asked: what is done with the findings.

    Raises:
        InputError: the set is not recognised, or nothing of it can be read.
        OutputError: a result cannot be written.
    """
    network = architecture(member, image_size=image_size)
    broken: list[BrokenRow] = []
    try:
        found = read_set(root, format, broken=broken)
    except InputError as error:
        if not broken:
            raise
        nothing = Finding("labels.unusable", "error", str(root), str(error))
        report = CheckReport(str(root), (*row_findings(broken), nothing))
        return asked.finish(report, lambda one: None)
    notes = [Finding("labels.note", "note", str(found.root), note) for note in found.notes]
    return check_sources(
        found.line(),
        found.splits,
        network,
        root=found.root,
        before=[*row_findings(broken), *notes],
        fix_to=fix_to or _SAME_FORMAT.get(found.format_name, "coco"),
        asked=asked,
    )


def check_sources(
    title: str,
    sources: Mapping[str, BoxSource],
    network: DetectorArchitecture,
    *,
    read: PixelReader = PixelReader(),
    root: Path | None = None,
    before: Sequence[Finding] = (),
    fix_to: Target = "coco",
    asked: Asked = Asked(),
) -> CheckReport:
    """What is wrong with splits that have been found.

    Args:
        title: the set in one line.
        sources: images and boxes by the name of the split.
        network: that will be trained; its canvas decides which boxes are tiny, and its anchors are looked at.
        read: reads the images.
        root: folder whose images and labels must all be in use; None asks for none.
        before: findings of the reading.
        fix_to: format of the copy.
        asked: what is done with the findings.

    Raises:
        InputError: `asked.group` is no regular expression.
        OutputError: a result cannot be written.
    """
    asked.prepare()
    own, same = apart(sources)
    given = ReadBoxes.of(own, read)
    findings = (
        *before,
        *same,
        *image_findings(given.all_paths, given.owners, given.facts, asked.group),
        *given.box_findings(network.image_size, network),
        *(() if root is None else unused_files(root, given.all_paths)),
    )
    report = CheckReport(title, findings, tuple(given.measures(network.image_size, network)))
    return asked.finish(
        report,
        lambda one: draw_finding(one, read),
        lambda folder: [*fix_boxes(given, folder, fix_to, read), *left_out(findings)],
    )


def unused_files(root: Path, paths: Sequence[Path]) -> Iterator[Finding]:
    """Images below a folder that no label names, and labels of YOLO whose image is not there."""
    known = {path.resolve() for path in paths}
    stems = {path.stem for path in paths}
    for path in walk(root):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES and path.resolve() not in known:
            yield Finding("image.without_labels", "warning", str(path), "is in no label file")
        of_labels = suffix == ".txt" and "labels" in (part.lower() for part in path.relative_to(root).parts[:-1])
        if of_labels and path.stem not in stems and path.stem not in _NO_LABELS:
            yield Finding("label.without_image", "warning", str(path), "has no image")


def network_of(
    model: Mapping[str, object], data_size: int | tuple[int, int] | None, member: str | None, image_size: int | None
) -> DetectorArchitecture:
    """The network that a config describes, as far as its canvas and anchors go.

    Args:
        model: the settings of the model in the configs.
        data_size: the canvas that the data ask for.
        member: the member that was asked for; None takes that of the config.
        image_size: the side that was asked for.

    Raises:
        InputError: there is no such member, or a value is out of range.
    """
    overrides = model.get("architecture")
    given = {str(key): value for key, value in overrides.items()} if isinstance(overrides, Mapping) else {}
    given |= {"image_size": data_size} if data_size is not None else {}
    given |= {"image_size": image_size} if image_size is not None else {}
    return architecture(member or str(model.get("member") or MEMBER), **given)


def title_of(sources: Mapping[str, BoxSource]) -> str:
    """Splits of a data module in one line."""
    images = sum(len(source.image_ids) for source in sources.values())
    counts = ", ".join(f"{split} {len(source.image_ids):,}" for split, source in sources.items())
    boxes = sum(len(source.class_ids) for source in sources.values())
    return f"{images:,} images, {boxes:,} boxes ({counts})"


def _of_data(
    given: GivenData,
    image_size: int | None = None,
    member: str | None = None,
    fix_to: Target = "coco",
    asked: Asked = Asked(),
) -> CheckReport:
    """Read a set that is given as to fit, and tell what is wrong with it.

    Args:
        given: its data module, and the model's settings.
        image_size: side of the canvas in training, in pixels, which decides what is tiny; null takes the config's.
        member: the family member whose anchors are looked at; null takes the config's.
        fix_to: format of the cleaned copy.
        asked: what is done with the findings.
    """
    assert isinstance(given.data, BoxData)
    network = network_of(given.model, given.data.image_size, member, image_size)
    sources, before = sources_of(given.data)
    title = title_of(sources)
    return check_sources(title, sources, network, read=given.data.reader, before=before, fix_to=fix_to, asked=asked)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""
    return CheckCommand(SPEC, __doc__ or "", _of_data, check).main(argv)
