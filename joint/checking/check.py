"""`python -m joint check`: what is wrong with images, boxes and masks, by name and file.

The data are given as to fit, by --config and by --data.…, and these options say what is done with the findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detection.checking.check import network_of
from detection.network.family import DetectorArchitecture
from engine.checking.asked import Asked
from engine.checking.command import CheckCommand
from engine.checking.findings import CheckReport
from engine.checking.given import left_out
from engine.checking.images import image_findings
from engine.cli.given.data import GivenData
from engine.errors import InputError
from joint.checking.fix import fix_joint
from joint.checking.given import Given, JointSets, ReadJoint
from joint.spec import SPEC
from segmentation.checking.check_data import draw_mask_finding


def check(data: JointSets, network: DetectorArchitecture, asked: Asked = Asked()) -> CheckReport:
    """Read all images and masks of a data module once, and tell what is wrong with them and with the boxes.

    Args:
        data: the set, or the two sets, as a training takes them.
        network: the detecting part; its canvas decides which boxes are tiny, and its anchors are looked at.
        asked: what is done with the findings.

    Raises:
        InputError: no split was given, or none can be used.
        OutputError: a result cannot be written.
    """
    asked.prepare()
    given = Given.of(data, name_broken=True)
    images = given.images()
    read = ReadJoint.of(given, data.reader)
    findings = (
        *given.findings,
        *image_findings(list(images), list(images.values()), [read.facts[path] for path in images], asked.group),
        *given.unmatched(),
        *(read.boxes.box_findings(network.image_size, network) if given.boxes else ()),
        *(read.masks.mask_findings() if given.masks else ()),
        *read.frames(),
    )
    measures = [f"boxes of {line}" for line in read.boxes.measures(network.image_size, network)]
    measures += [f"masks of {line}" for line in read.masks.measures()]
    title = f"{len(images):,} images: boxes of {_counts(given.boxes)}; masks of {_counts(given.masks)}"
    return asked.finish(
        CheckReport(title, findings, tuple(measures)),
        lambda found: draw_mask_finding(found, given.masks, data.reader),
        lambda folder: [*fix_joint(read, folder, data.masks.format, data.reader), *left_out(findings)],
    )


def _counts(splits: Mapping[str, object]) -> str:
    return ", ".join(splits) or "no split"


def _of_data(given: GivenData, asked: Asked = Asked()) -> CheckReport:
    """Read what is given as to fit, and tell what is wrong with it.

    Args:
        given: its data module, and the model's settings.
        asked: what is done with the findings.
    """
    if not isinstance(given.data, JointSets):
        msg = "no data were given. Give --config FILE, or --data.root and --data.format as for fit."
        raise InputError(msg)
    part = given.model.get("detector")
    own: Mapping[str, object] = {str(key): value for key, value in part.items()} if isinstance(part, dict) else {}
    model = {"member": own.get("member") or given.model.get("member"), "architecture": own.get("architecture")}
    return check(given.data, network_of(model, given.data.canvas_size, None, None), asked)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""
    return CheckCommand(SPEC, __doc__ or "", _of_data).main(argv)
