"""A classifier's file gives what its checkpoint gives, and the server answers with its classes."""

from __future__ import annotations

import numpy as np
import pytest

from classification import load
from classification.prediction.predictor import ClassificationPredictor
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.options import Options
from deployment.export.write import export
from deployment.serving.answers import document_of
from engine.errors import InputError
from engine.exports.files import open_exported
from tests.deployment.kinds.networks import classifier
from tests.deployment.networks import picture

PICTURES = [picture(90, 130, 1), picture(64, 64, 2), picture(300, 40, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_files_give_the_network_s_classes(several, tmp_path):
    source = classifier(several=several)
    own = ClassificationPredictor(source.network, 0.4)
    onnx = export(source, tmp_path / "one.onnx", "onnx").path
    openvino = write_openvino(onnx, tmp_path / "one.xml", open_exported(onnx).about)
    torch_file = export(source, tmp_path / "one.pt2", "torch", Options(batch_size=2)).path
    expected = own.predict_many(PICTURES)
    assert np.ptp([each.probabilities for each in expected], axis=0).max() > 0.01
    for path in (onnx, openvino, torch_file):
        file = load(path)
        assert file.threshold == 0.4
        assert file.classes == source.network.classes
        for found, wanted in zip(file.predict_many(PICTURES), expected, strict=True):
            np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-4)
            assert found.labels == wanted.labels
        np.testing.assert_allclose(file.embed(PICTURES), own.embed(PICTURES), atol=1e-3)
        assert file.embed([]).shape == own.embed([]).shape


@pytest.mark.parametrize(
    ("file_format", "options", "said"),
    [
        ("executorch", {}, "'letters' is a classifier, which is not written with --format executorch. Give onnx or"),
        ("onnx", {"letterbox": "inside"}, "as it looks at a square cut out of a picture. Leave it out."),
        ("onnx", {"nms": "inside"}, "nms is a setting of boxes, which a network of classification does not give"),
        ("onnx", {"max_detections": 3}, "which a network of classification does not have"),
        ("onnx", {"argmax": True}, "argmax is a setting of classes of pixels"),
    ],
)
def test_what_is_not_written(file_format, options, said, tmp_path):
    suffix = {"executorch": "pte", "onnx": "onnx"}[file_format]
    with pytest.raises(InputError, match=said):
        export(classifier(), tmp_path / f"one.{suffix}", file_format, Options(**options))


def test_a_served_answer_has_the_likeliest_classes():
    found = ClassificationPredictor(classifier().network).predict(PICTURES[0])
    document = document_of(found, "rle")
    assert document["labels"] == [found.label]
    assert [one["label"] for one in document["top"]] == [each.label for each in found.top(5)]
    assert sum(one["probability"] for one in document["top"]) == pytest.approx(1, abs=1e-4)
