"""What MediaPipe's Object Detector reads in a .tflite file: names of tensors and classes, anchors, thresholds.

Sources: mediapipe 1.2.3, `tasks/metadata/metadata_schema.fbs` (version 1.5.0) and
`object_detector_metadata_schema.fbs`; tables are written field by field, as the numbers there say.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deployment.litert.options import LitertOptions

if TYPE_CHECKING:
    import flatbuffers

NAME = "TFLITE_METADATA"
ANCHORS_NAME = "DETECTOR_METADATA"
LABELS_NAME = "labelmap.txt"
# What the detector finds its tensors by; the order is that of the outputs.
WITH_SUPPRESSION = ("location", "category", "score", "number of detections")
WITHOUT_SUPPRESSION = ("location", "score")
_PARSER = "1.5.0"  # the version of the schema
# Members of enumerations and unions of the schema.
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # a row of a tensor's last axis; a value of a tensor
_RGB = 1
_IMAGE, _BOXES, _FEATURE = 2, 3, 1
_BOUNDARIES = 1
_NORMALISATION, _THRESHOLD = 1, 3


def object_detector(
    labels_of: Sequence[str], anchors_yxhw: npt.NDArray[np.float32], options: LitertOptions, licence: str
) -> bytes:
    """The metadata of a detector.

    Args:
        labels_of: a name for each row of the class list; only its length counts.
        anchors_yxhw: (R, 4) centre and size in fractions of the canvas, for a file without suppression.
        options: whether there is one, and the threshold of scores.
        licence: of the weights.
    """
    tables = _Tables()
    suppressed = options.nms == "op"
    names = WITH_SUPPRESSION if suppressed else WITHOUT_SUPPRESSION
    labelled = "category" if suppressed else "score"
    outputs = []
    for name in names:
        fields: list[_Field] = [(0, tables.text(name)), (3, _content(tables, name, suppressed))]
        if name == "score":
            threshold = tables.table(1, [(0, options.score_threshold)])
            fields.append((4, tables.vector([tables.union_table(_THRESHOLD, threshold)])))
        if name == labelled:
            kind = _VALUE_LABELS if suppressed else _AXIS_LABELS
            file = tables.table(5, [(0, tables.text(LABELS_NAME)), (2, np.int8(kind))])
            fields.append((6, tables.vector([file])))
        outputs.append(tables.table(7, fields))
    graph: list[_Field] = [(2, tables.vector([_image(tables)])), (3, tables.vector(outputs))]
    if suppressed:
        grouped = tables.vector([tables.text(name) for name in names[:3]])
        group = tables.table(2, [(0, tables.text("detection_result")), (1, grouped)])
        graph.append((8, tables.vector([group])))
    else:
        data = tables.raw(_anchors(anchors_yxhw, len(labels_of)))
        graph.append((9, tables.vector([tables.table(2, [(0, tables.text(ANCHORS_NAME)), (1, data)])])))
    fields = [
        (0, tables.text("ObjectDetector")),
        (1, tables.text("EfficientDet of EffDense")),
        (3, tables.vector([tables.table(10, graph)])),
        (7, tables.text(_PARSER)),
    ]
    if licence:
        fields.append((5, tables.text(licence)))
    return tables.finish(tables.table(8, fields), b"M001")


def with_labels(content: bytes, labels: str) -> bytes:
    """A file with its names of classes behind it, as an archive that MediaPipe reads there.

    Args:
        content: the file.
        labels: a line for each row of the class list.
    """
    whole = io.BytesIO(content)
    with zipfile.ZipFile(whole, "a") as archive:  # of no file's own time, so that equal exports are equal
        archive.writestr(zipfile.ZipInfo(LABELS_NAME), labels)
    return whole.getvalue()


def _content(tables: _Tables, name: str, suppressed: bool) -> _Offset:
    if name != "location":
        kind, properties = _FEATURE, tables.table(0, [])
    else:
        # Where left, top, right and bottom are in ymin, xmin, ymax, xmax.
        index = tables.numbers([1, 0, 3, 2])
        kind, properties = _BOXES, tables.table(3, [(0, index), (1, np.int8(_BOUNDARIES))])
    fields: list[_Field] = [(0, np.uint8(kind)), (1, properties)]
    if suppressed and name != "number of detections":
        fields.append((2, tables.table(2, [(0, np.int32(2)), (1, np.int32(2))])))  # values are along axis 2
    return tables.table(3, fields)


def _image(tables: _Tables) -> _Offset:
    properties = tables.table(2, [(0, np.int8(_RGB))])
    content = tables.table(3, [(0, np.uint8(_IMAGE)), (1, properties)])
    # Pixels come as they are, and the normalisation is inside the file. The numbers are only recorded.
    scaling = tables.table(2, [(0, tables.reals([127.5])), (1, tables.reals([127.5]))])
    units = tables.vector([tables.union_table(_NORMALISATION, scaling)])
    extremes = tables.table(2, [(0, tables.reals([255.0])), (1, tables.reals([0.0]))])
    return tables.table(7, [(0, tables.text("image")), (3, content), (4, units), (5, extremes)])


def _anchors(anchors_yxhw: npt.NDArray[np.float32], classes: int) -> bytes:
    """How the outputs become boxes: deltas in the order ty, tx, th, tw without variances, and scores in 0..1."""
    tables = _Tables()
    made = [tables.table(4, [(0, x), (1, y), (2, w), (3, h)]) for y, x, h, w in anchors_yxhw.tolist()]
    anchors = tables.table(1, [(0, tables.table(1, [(0, tables.vector(made))]))])
    counts = ((0, classes), (1, len(anchors_yxhw)), (2, 4), (5, 2))  # keypoints of 2 values, of which there are none
    fields: list[_Field] = [(slot, np.int32(count)) for slot, count in counts]
    fields += [(slot, 1.0) for slot in (6, 7, 8, 9)]
    decoding = tables.table(12, [*fields, (10, True)])
    return tables.finish(tables.table(3, [(0, tables.text(_PARSER)), (1, anchors), (2, decoding)]), b"V001")


class _Offset(int):
    """The place of something that is written already."""


_Field = tuple[int, "_Offset | float | bool | np.int8 | np.uint8 | np.int32"]


class _Tables:
    """Writes tables of a flatbuffer, the inner before the outer ones."""

    def __init__(self) -> None:
        import flatbuffers

        self._builder: flatbuffers.Builder = flatbuffers.Builder(1024)

    def text(self, text: str) -> _Offset:
        return _Offset(self._builder.CreateString(text))

    def raw(self, content: bytes) -> _Offset:
        return _Offset(self._builder.CreateByteVector(content))

    def numbers(self, values: Sequence[int]) -> _Offset:
        return _Offset(self._builder.CreateNumpyVector(np.array(values, dtype=np.uint32)))

    def reals(self, values: Sequence[float]) -> _Offset:
        return _Offset(self._builder.CreateNumpyVector(np.array(values, dtype=np.float32)))

    def vector(self, places: Sequence[_Offset]) -> _Offset:
        self._builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        return _Offset(self._builder.EndVector())

    def union_table(self, kind: int, content: _Offset) -> _Offset:
        """A table with nothing but a union."""
        return self.table(2, [(0, np.uint8(kind)), (1, content)])

    def table(self, slots: int, fields: Sequence[_Field]) -> _Offset:
        """A table.

        Args:
            slots: fields of its kind in the schema.
            fields: number and value of those that are given.
        """
        builder = self._builder
        builder.StartObject(slots)
        for slot, value in fields:
            if isinstance(value, _Offset):
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            elif isinstance(value, bool):
                builder.PrependBoolSlot(slot, value, False)
            elif isinstance(value, np.int8):
                builder.PrependInt8Slot(slot, int(value), 0)
            elif isinstance(value, np.uint8):
                builder.PrependUint8Slot(slot, int(value), 0)
            elif isinstance(value, (int, np.int32)):
                builder.PrependInt32Slot(slot, value, 0)
            else:
                builder.PrependFloat32Slot(slot, value, 0.0)
        return _Offset(builder.EndObject())

    def finish(self, root: _Offset, identifier: bytes) -> bytes:
        self._builder.Finish(root, identifier)
        return bytes(self._builder.Output())
