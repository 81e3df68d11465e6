"""What MediaPipe reads in a file, read field by field as `metadata_schema.fbs` numbers them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from deployment.litert.mediapipe import LABELS_NAME, object_detector, with_labels
from deployment.litert.options import LitertOptions
from tests.deployment.litert.toy import anchors_yxhw

NAMES = ("car", "", "person")
ANCHORS = anchors_yxhw()[:5]


class Fields:
    """A table of a flatbuffer whose fields are read by their numbers in the schema."""

    def __init__(self, content: bytes, place: int) -> None:
        self.table = Table(content, place)

    @classmethod
    def root(cls, content: bytes) -> Fields:
        return cls(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))

    def _at(self, field: int) -> int:
        offset = self.table.Offset(4 + 2 * field)
        assert offset, f"field {field} is missing"
        return offset + self.table.Pos

    def has(self, field: int) -> bool:
        return bool(self.table.Offset(4 + 2 * field))

    def text(self, field: int) -> str:
        return self.table.String(self._at(field)).decode()

    def inner(self, field: int) -> Fields:
        return Fields(self.table.Bytes, self.table.Indirect(self._at(field)))

    def many(self, field: int) -> list[Fields]:
        offset = self.table.Offset(4 + 2 * field)
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        return [Fields(self.table.Bytes, self.table.Indirect(start + 4 * place)) for place in range(count)]

    def array(self, field: int, kind: str) -> np.ndarray:
        offset = self.table.Offset(4 + 2 * field)
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        return np.frombuffer(self.table.Bytes, dtype=kind, count=count, offset=start)

    def number(self, field: int, kind: str) -> float:
        return float(np.frombuffer(self.table.Bytes, dtype=kind, count=1, offset=self._at(field))[0])


def metadata(**options: object) -> tuple[bytes, Fields]:
    content = object_detector(NAMES, ANCHORS, LitertOptions(**options), "MIT")
    return content, Fields.root(content).many(3)[0]


def test_four_outputs_have_the_names_that_are_looked_for():
    content, graph = metadata(score_threshold=0.3)
    assert content[4:8] == b"M001"
    model = Fields.root(content)
    assert model.text(7) == "1.5.0"
    assert model.text(5) == "MIT"
    outputs = graph.many(3)
    assert [output.text(0) for output in outputs] == ["location", "category", "score", "number of detections"]
    boxes = outputs[0].inner(3)
    assert boxes.number(0, "u1") == 3  # BoundingBoxProperties
    assert boxes.inner(1).array(0, "<u4").tolist() == [1, 0, 3, 2]
    assert boxes.inner(1).number(1, "i1") == 1  # BOUNDARIES
    (labels,) = outputs[1].many(6)
    assert (labels.text(0), labels.number(2, "i1")) == (LABELS_NAME, 3)  # TENSOR_VALUE_LABELS
    (unit,) = outputs[2].many(4)
    assert unit.number(0, "u1") == 3  # ScoreThresholdingOptions
    assert unit.inner(1).number(0, "<f4") == pytest.approx(0.3)
    assert not graph.has(9)  # no anchors


def test_two_outputs_come_with_anchors():
    _, graph = metadata(nms="none")
    outputs = graph.many(3)
    assert [output.text(0) for output in outputs] == ["location", "score"]
    (labels,) = outputs[1].many(6)
    assert labels.number(2, "i1") == 2  # TENSOR_AXIS_LABELS
    (custom,) = graph.many(9)
    assert custom.text(0) == "DETECTOR_METADATA"
    data = custom.array(1, "u1").tobytes()
    assert data[4:8] == b"V001"
    detector = Fields.root(data)
    found = [[anchor.number(field, "<f4") for field in range(4)] for anchor in detector.inner(1).inner(0).many(0)]
    np.testing.assert_array_equal(np.array(found, np.float32), ANCHORS[:, [1, 0, 3, 2]])  # x, y, width, height
    decoding = detector.inner(2)
    assert [decoding.number(field, "<i4") for field in (0, 1, 2, 5)] == [3, 5, 4, 2]
    assert [decoding.number(field, "<f4") for field in (6, 7, 8, 9)] == [1, 1, 1, 1]
    assert decoding.number(10, "u1") == 1  # an exponential of the sides
    assert not decoding.has(11)  # no sigmoid, which the file has


def test_pixels_come_as_they_are():
    _, graph = metadata()
    (image,) = graph.many(2)
    content = image.inner(3)
    assert content.number(0, "u1") == 2  # ImageProperties
    assert content.inner(1).number(0, "i1") == 1  # RGB
    assert image.inner(5).array(0, "<f4").tolist() == [255]


def test_labels_lie_behind_the_file_as_an_archive():
    labels = "car\n???\nperson\n"
    content = with_labels(b"TFL3 and so on", labels)
    assert content.startswith(b"TFL3 and so on")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [LABELS_NAME]
        assert archive.read(LABELS_NAME).decode() == labels
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
    assert with_labels(b"TFL3 and so on", labels) == content  # of no hour of the day
