"""Assignments that mypy checks: the real data modules, sets and tasks meet the contracts that stand between them.

Nothing here is called. `isinstance` would not do: it neither knows the types of properties nor those of arguments.
"""

from __future__ import annotations

from classification.data.contracts import ClassificationData, ClassifierTask
from classification.data.module import ClassificationDataModule
from classification.data.sets.cifar import CifarRecords
from classification.data.sources import LabelledFiles, LabelSource
from classification.task import ClassificationTask
from detection.data.boxes import BoxSource, BoxTable
from detection.data.coco import CocoAnnotations
from detection.data.contracts import DetectionData, DetectorTask
from detection.data.module import BoxDataModule, CocoDataModule
from detection.task import DetectionTask
from joint.data.contracts import JointData, JointNetworkTask
from joint.data.module import JointDataModule
from joint.task import JointTask
from segmentation.data.cityscapes.files import CityscapesFiles
from segmentation.data.contracts import SegmentationData, SegmenterTask
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.module import SegmentationDataModule
from segmentation.data.pairs import MaskSource
from segmentation.task import SegmentationTask


def tasks(
    detection: DetectionTask, segmentation: SegmentationTask, joint: JointTask
) -> tuple[DetectorTask, SegmenterTask, JointNetworkTask]:
    """What data modules ask of tasks."""
    return detection, segmentation, joint


def data_modules(
    boxes: BoxDataModule, coco: CocoDataModule, masks: SegmentationDataModule, both: JointDataModule
) -> tuple[DetectionData, DetectionData, SegmentationData, JointData]:
    """What tasks ask of data modules."""
    return boxes, coco, masks, both


def sources(
    table: BoxTable, coco: CocoAnnotations, cityscapes: CityscapesFiles, folder: MaskFolder
) -> tuple[BoxSource, BoxSource, MaskSource, MaskSource]:
    """What data sets and scores ask of formats."""
    return table, coco, cityscapes, folder


def labels(
    files: LabelledFiles, records: CifarRecords, data: ClassificationDataModule, task: ClassificationTask
) -> tuple[LabelSource, LabelSource, ClassificationData, ClassifierTask]:
    """What classification's sets, data module and task ask of each other."""
    return files, records, data, task
