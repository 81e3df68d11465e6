"""`python -m detection check`: what is wrong with a set of boxes, by name and file.

The set is a folder, `check MYSET`, or is given as to fit, by --config and by --data.…
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from detection.checking.fix import Target, fix_boxes
from detection.checking.given import BoxData, apart_from_each_other, sources_of
from detection.checking.read_set import ReadBoxes
from detection.data.boxes import BoxSource
from detection.formats.found import FormatWord, read_set
from detection.network.family import DetectorArchitecture, architecture
from detection.spec import SPEC
from engine.checking.findings import CheckReport, FailOn, Finding
from engine.checking.images import image_findings
from engine.checking.pictures import draw_finding, write_pictures
from engine.cli.commands import HELP, parse_function, program, run_command
from engine.cli.given.data import given_data
from engine.outputs import make_folder, write_json
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
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fix: str | Path | None = None,
    fix_to: Target | None = None,
) -> CheckReport:
    """Read a whole set once, and tell what is wrong with it.

    Args:
        root: the folder of the set.
        format: its format, where the folder holds several; None recognises it.
        image_size: side of the canvas in training, in pixels, which decides what is tiny; None takes the member's.
        member: the family member whose anchors are looked at.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.
        fix: folder for a cleaned copy of the set; nothing of the set itself is changed.
        fix_to: format of the copy; None takes that of the set where it is one that is written, else COCO.

    Raises:
        InputError: the set is not recognised or cannot be read.
        OutputError: a result cannot be written.
    """
    network = architecture(member, image_size=image_size)
    found = read_set(root, format)
    notes = [Finding("labels.note", "note", str(found.root), note) for note in found.notes]
    return check_sources(
        found.line(),
        found.splits,
        network,
        root=found.root,
        before=notes,
        group=group,
        output=output,
        pictures=pictures,
        fix=fix,
        fix_to=fix_to or _SAME_FORMAT.get(found.format_name, "coco"),
    )


def check_sources(
    title: str,
    sources: Mapping[str, BoxSource],
    network: DetectorArchitecture,
    *,
    read: PixelReader = PixelReader(),
    root: Path | None = None,
    before: Sequence[Finding] = (),
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fix: str | Path | None = None,
    fix_to: Target = "coco",
) -> CheckReport:
    """What is wrong with splits that have been found.

    Args:
        title: the set in one line.
        sources: images and boxes by the name of the split.
        network: that will be trained; its canvas decides which boxes are tiny, and its anchors are looked at.
        read: reads the images.
        root: folder whose images and labels must all be in use; None asks for none.
        before: findings of the reading.
        group: as in `check`.
        output: as in `check`.
        pictures: as in `check`.
        fix: as in `check`.
        fix_to: format of the copy.

    Raises:
        InputError: `group` is no regular expression.
        OutputError: a result cannot be written.
    """
    if output is not None:
        make_folder(Path(output).parent)
    apart, same = apart_from_each_other(sources)
    given = ReadBoxes.of(apart, read)
    findings = (
        *before,
        *same,
        *image_findings(given.all_paths, given.owners, given.facts, group),
        *given.box_findings(network.image_size, network),
        *(() if root is None else unused_files(root, given.all_paths)),
    )
    report = CheckReport(title, findings, tuple(given.measures(network.image_size, network)))
    if output is not None:
        write_json(output, report.document())
    if pictures is not None:
        write_pictures(pictures, report, lambda one: draw_finding(one, read))
    if fix is not None:
        done = fix_boxes(given, fix, fix_to, read)
        report = CheckReport(report.title, report.findings, (*report.measures, *done))
    return report


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


def _options(
    image_size: int | None = None,
    member: str | None = None,
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fix: str | Path | None = None,
    fix_to: Target = "coco",
    fail_on: FailOn = "error",
) -> None:
    """The options of a check whose set is given as to fit."""


def _folder(
    root: str | Path,
    format: FormatWord | None = None,
    image_size: int | None = None,
    member: str = MEMBER,
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fix: str | Path | None = None,
    fix_to: Target | None = None,
    fail_on: FailOn = "error",
) -> None:
    """Read a whole set once, and tell what is wrong with it.

    Args:
        root: the folder of the set.
        format: its format, where the folder holds several; null recognises it.
        image_size: side of the canvas in training, in pixels, which decides what is tiny; null takes the member's.
        member: the family member whose anchors are looked at.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.
        fix: folder for a cleaned copy of the set; nothing of the set itself is changed.
        fix_to: format of the copy; null takes that of the set where it is one that is written, else COCO.
        fail_on: the exit code is 1 if a finding is at least so bad; "never" leaves it 0.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""

    def act() -> int:
        words = list(sys.argv[2:] if argv is None else argv)
        command = f"{program('detection')} check"
        given = None if set(HELP) & set(words) else given_data(SPEC, words)
        if given is None:
            options = parse_function(_folder, command, words, __doc__, positional=True)
            fail_on = options.pop("fail_on")
            report = check(**options)
        else:
            assert isinstance(given.data, BoxData)
            options = parse_function(_options, command, given.rest, __doc__)
            fail_on = options.pop("fail_on")
            network = network_of(given.model, given.data.image_size, options.pop("member"), options.pop("image_size"))
            sources, unusable = sources_of(given.data)
            report = check_sources(
                title_of(sources), sources, network, read=given.data.reader, before=unusable, **options
            )
        sys.stdout.write(report.table() + "\n")
        return report.exit_code(fail_on)

    return run_command(act)
