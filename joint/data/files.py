"""Where the boxes and the masks of a joint set lie."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from detection.data.classes import ClassRows
from detection.formats.collected import VocOrigin
from detection.formats.found import FormatWord
from engine.data.contracts import SplitName
from segmentation.data.cityscapes.files import CityscapesData
from segmentation.data.drawn.masks import DrawnData
from segmentation.data.mask_folder import FolderData


@dataclass(frozen=True)
class BoxFiles:
    """The paths of the annotations with boxes, and of their images.

    In format `both` the images are those of the masks, and the annotations of Cityscapes are by default
    `annotations/instances_SPLIT.json`, which `python -m joint boxes` writes.

    In format `two` a root without any path is the folder of a set in any format, which is recognised, as in detection.
    So it is in format `both` where the masks are drawn: root, format, split, group and classes are by default those of
    the masks then.

    Attributes:
        root: folder that the paths start from; by default data.root.
        train_images: folder of the training images.
        train_annotations: COCO JSON file of the training images.
        val_images: folder of the validation images.
        val_annotations: COCO JSON file of the validation images.
        test_images: folder of the test images.
        test_annotations: COCO JSON file of the test images.
        class_rows: how a model made for the data numbers its classes: "contiguous" or "by_id", as in detection.
        format: the format of the set in root, where it holds several; null recognises it.
        split: shares of train, val and test of a set without splits, such as 0.8/0.1/0.1.
        group: a regular expression for names of images; those that it matches alike stay in one split.
        classes: names of the classes in their order, where the set has none or another one.
        voc_origin: number of the first pixel in Pascal VOC's XML: "1", "0", or "auto".
    """

    root: str | None = None
    train_images: str | None = None
    train_annotations: str | None = None
    val_images: str | None = None
    val_annotations: str | None = None
    test_images: str | None = None
    test_annotations: str | None = None
    class_rows: ClassRows = "contiguous"
    format: FormatWord | None = None
    split: str | None = None
    group: str | None = None
    classes: tuple[str, ...] = ()
    voc_origin: VocOrigin = "auto"

    def of(self, split: SplitName) -> tuple[str | None, str | None]:
        """The images and the annotations of a split."""
        splits: dict[SplitName, tuple[str | None, str | None]] = {
            "train": (self.train_images, self.train_annotations),
            "val": (self.val_images, self.val_annotations),
            "test": (self.test_images, self.test_annotations),
        }
        return splits[split]

    def of_drawn(self, masks: MaskFiles, root: str) -> BoxFiles:
        """The boxes of the objects that are drawn as masks: by default the same set, in the same splits.

        Args:
            masks: where the drawn objects are.
            root: their folder.
        """
        drawn = masks.drawn
        return dataclasses.replace(
            self,
            root=self.root or root,
            format=self.format or drawn.format,
            split=self.split or drawn.split,
            group=self.group or drawn.group,
            classes=self.classes or drawn.classes,
        )


@dataclass(frozen=True)
class MaskFiles:
    """The paths of the images with masks.

    Attributes:
        root: folder that the paths start from; by default data.root.
        format: whether they are Cityscapes, any folders of images and masks, or objects in label files, drawn.
        cityscapes: the parts of Cityscapes that are used.
        folder: the folders of your own images and masks.
        drawn: what becomes of polygons and painted pixels in the label files of a set.
    """

    root: str | None = None
    format: Literal["cityscapes", "folder", "drawn"] = "cityscapes"
    cityscapes: CityscapesData = CityscapesData()
    folder: FolderData = FolderData()
    drawn: DrawnData = DrawnData()
