"""`python -m joint check`: what is wrong with images, boxes and masks, by name and file.

The data are given as to fit, by --config and by --data.…, and these options say what is done with the findings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from detection.checking.check import network_of
from detection.network.family import DetectorArchitecture
from engine.checking.findings import CheckReport, FailOn
from engine.checking.images import image_findings
from engine.checking.pictures import write_pictures
from engine.cli.commands import HELP, parse_function, program, run_command
from engine.cli.given.data import given_data
from engine.errors import InputError
from engine.outputs import make_folder, write_json
from joint.checking.given import Given, JointSets, ReadJoint
from joint.spec import SPEC
from segmentation.checking.check_data import draw_mask_finding


def check(
    data: JointSets,
    network: DetectorArchitecture,
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
) -> CheckReport:
    """Read all images and masks of a data module once, and tell what is wrong with them and with the boxes.

    Args:
        data: the set, or the two sets, as a training takes them.
        network: the detecting part; its canvas decides which boxes are tiny, and its anchors are looked at.
        group: a regular expression; images whose names match it alike belong together, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.

    Raises:
        InputError: no split was given, or none can be used.
        OutputError: a result cannot be written.
    """
    if output is not None:
        make_folder(Path(output).parent)
    given = Given.of(data)
    images = given.images()
    read = ReadJoint.of(given, data.reader)
    findings = (
        *given.findings,
        *image_findings(list(images), list(images.values()), [read.facts[path] for path in images], group),
        *given.unmatched(),
        *(read.boxes.box_findings(network.image_size, network) if given.boxes else ()),
        *(read.masks.mask_findings() if given.masks else ()),
        *read.frames(),
    )
    measures = [f"boxes of {line}" for line in read.boxes.measures(network.image_size, network)]
    measures += [f"masks of {line}" for line in read.masks.measures()]
    title = f"{len(images):,} images: boxes of {_counts(given.boxes)}; masks of {_counts(given.masks)}"
    report = CheckReport(title, findings, tuple(measures))
    if output is not None:
        write_json(output, report.document())
    if pictures is not None:
        write_pictures(pictures, report, lambda found: draw_mask_finding(found, given.masks, data.reader))
    return report


def _counts(splits: Mapping[str, object]) -> str:
    return ", ".join(splits) or "no split"


def _options(
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fail_on: FailOn = "error",
) -> None:
    """The options beside those of the data.

    Args:
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.
        fail_on: the exit code is 1 if a finding is at least so bad; "never" leaves it 0.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""

    def act() -> int:
        words = list(sys.argv[2:] if argv is None else argv)
        given = None if set(HELP) & set(words) else given_data(SPEC, words)
        options = parse_function(_options, f"{program('joint')} check", words if given is None else given.rest, __doc__)
        if given is None or not isinstance(given.data, JointSets):
            msg = "no data were given. Give --config FILE, or --data.root and --data.format as for fit."
            raise InputError(msg)
        fail_on = options.pop("fail_on")
        part = given.model.get("detector")
        own: Mapping[str, object] = {str(key): value for key, value in part.items()} if isinstance(part, dict) else {}
        model = {"member": own.get("member") or given.model.get("member"), "architecture": own.get("architecture")}
        network = network_of(model, given.data.canvas_size, None, None)
        report = check(given.data, network, **options)
        sys.stdout.write(report.table() + "\n")
        return report.exit_code(fail_on)

    return run_command(act)
