"""One image in, the predictor's own answer out: as JSON and as a picture, alone and with many at a time."""

from __future__ import annotations

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from deployment.serving.answers import form_of
from deployment.serving.limits import RefusedError
from deployment.serving.predicting import PredictorWork, TiledWork, is_tiled
from detection.data.masks import decoded
from detection.prediction.predictor import DetectionPredictor
from joint.prediction.predictor import JointPredictor
from segmentation.inference.predictor import SegmentationPredictor
from tests.deployment.networks import detector, joint, segmenter
from tests.deployment.serving.running import Sizes, form, photo, running

PREDICTORS = {
    "detection": lambda: DetectionPredictor(detector()),
    "segmentation": lambda: SegmentationPredictor(segmenter()),
    "joint": lambda: JointPredictor(joint()),
}


@pytest.fixture(scope="module", params=PREDICTORS)
def task(request):
    return request.param


@pytest.fixture(scope="module")
def predictor(task):
    return PREDICTORS[task]()


@pytest.fixture(scope="module")
def server(task, predictor):
    with running(PredictorWork(predictor), task, batch_size=4, wait_ms=20) as ours:
        yield ours


def check_document(said, answer, task):
    """Whether a document says what an answer holds."""
    assert said["task"] == task
    assert tuple(said["size_hw"]) == answer.size_hw
    found = getattr(answer, "found", answer if task == "detection" else None)
    segmented = getattr(answer, "segmented", answer if task == "segmentation" else None)
    assert ("objects" in said, "classes" in said) == (found is not None, segmented is not None)
    if found is not None:
        assert [one["label"] for one in said["objects"]] == found.labels
        assert [one["category_id"] for one in said["objects"]] == found.category_ids.tolist()
        np.testing.assert_allclose([one["score"] for one in said["objects"]], found.scores, atol=1e-4)
        np.testing.assert_allclose([one["box_xyxy"] for one in said["objects"]], found.boxes_xyxy, atol=0.05)
    if segmented is not None:
        areas = {name: count for name, count in segmented.areas().items() if count}
        assert {one["label"]: one["pixels"] for one in said["classes"]} == areas
        for one in said["classes"]:
            np.testing.assert_array_equal(decoded([one["mask_rle"]])[..., 0], segmented.label_ids == one["label_id"])


def test_json_of_a_body_and_of_a_form(server, predictor, task):
    content = photo(150, 210)
    answer = predictor.predict(content)
    said = server.send(body=content)
    assert said.status == 200
    assert said.headers["content-type"] == "application/json"
    check_document(said.json(), answer, task)
    body, headers = form(content)
    assert server.send(body=body, headers=headers).json() == said.json()
    assert len(said.json().get("objects", [0])) > 0


def test_masks_as_png_or_left_out(server, predictor, task):
    content = photo(150, 210)
    answer = predictor.predict(content)
    without, png = (server.send(path=f"/predict?masks={kind}", body=content).json() for kind in ("none", "png"))
    assert "mask_" not in json.dumps(without)
    if task == "detection":
        assert png == without  # a detector of boxes
        return
    segmented = getattr(answer, "segmented", answer)
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(png["mask_png"]))))
    np.testing.assert_array_equal(mask, segmented.label_ids)


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [("?as=picture", "*/*", "JPEG"), ("", "image/png", "PNG"), ("?as=picture", "image/png, */*;q=0.1", "PNG")],
)
def test_pictures(server, predictor, query, accept, kind):
    content = photo(150, 210, "PNG")
    reply = server.send(path=f"/predict{query}", body=content, headers={"Accept": accept})
    assert reply.status == 200
    assert reply.headers["content-type"] == f"image/{kind.lower()}"
    sent, file = Image.open(io.BytesIO(reply.body)), io.BytesIO()
    assert sent.format == kind
    predictor.predict(content).draw(content).save(file, kind, quality=92)
    expected = np.asarray(Image.open(file)).astype(int)
    assert np.abs(np.asarray(sent).astype(int) - expected).mean() < 0.2


def test_json_with_the_drawn_picture(server):
    said = server.send(path="/predict?draw=true&masks=none", body=photo(150, 210)).json()
    start, _, data = said["picture"].partition(",")
    assert start == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).width >= 210


def test_many_at_once_get_their_own_answers_from_common_batches():
    work = Sizes()
    with running(work, batch_size=8, wait_ms=60) as server:
        replies = {}

        def ask(number):
            replies[number] = server.send(body=photo(20 + number, 70 - number)).json()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert {number: reply["size_hw"] for number, reply in replies.items()} == {
            number: [20 + number, 70 - number] for number in range(24)
        }
        assert sum(work.batches) == 24
        assert max(work.batches) > 1
        counts = server.metrics()
        assert counts["effdense_requests_total", "200"] == 24
        assert counts["effdense_batch_images_sum",] == 24
        assert counts["effdense_batch_images_count",] == len(work.batches)
        assert counts["effdense_waiting",] == 0
        assert counts["effdense_held_bytes",] == 0
        assert counts["process_resident_memory_bytes",] > 1e7


def test_a_detector_in_tiles():
    predictor = DetectionPredictor(detector()).with_settings(window=96)
    assert is_tiled(predictor)
    assert not is_tiled(DetectionPredictor(predictor.network))
    work = TiledWork(predictor)
    content = photo(150, 210)
    [answer] = work.compute([work.prepare(content)])
    expected = predictor.predict(np.asarray(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(answer.boxes_xyxy, expected.boxes_xyxy)
    assert work.pixels(work.prepare(content)) == 150 * 210


def test_health_page_and_description():
    with running(Sizes()) as server:
        said = server.send("GET", "/health")
        assert said.status == 200
        assert said.json() == {"status": "ok", "task": "detection", "network": "tiny.ckpt", "version": "0.0"}
        page = server.send("GET", "/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert b"http://" not in page.body  # nothing comes from elsewhere
        assert b"https://" not in page.body
        described = server.send("GET", "/openapi.json").json()
        assert set(described["paths"]["/predict"]["post"]["requestBody"]["content"]) == {
            "image/*",
            "multipart/form-data",
        }


def test_what_waits_is_answered_when_the_server_ends():
    work = Sizes()
    work.free.clear()
    with running(work, batch_size=2) as server:
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(server.send(body=photo()))) for _ in range(5)]
        for thread in threads:
            thread.start()
        assert work.begun.wait(10)
        time.sleep(0.3)
        server.server.should_exit = True
        time.sleep(0.3)
        work.free.set()
        for thread in threads:
            thread.join(20)
        assert [reply.status for reply in replies] == [200] * 5
        server.thread.join(10)
        with pytest.raises(OSError, match="refused"):
            server.send("GET", "/health")


@pytest.mark.parametrize(
    ("wanted", "accept", "form"),
    [
        (None, "", "application/json"),
        (None, "*/*", "application/json"),
        (None, "text/html, image/*", "image/jpeg"),
        (None, "image/*;q=0.5, application/json;q=0.4", "image/jpeg"),
        (None, "image/*, application/json", "application/json"),
        (None, "image/*, image/jpeg;q=0", "image/png"),
        ("json", "image/png", "application/json"),
        ("picture", "application/json", "image/jpeg"),
        ("picture", "image/png", "image/png"),
    ],
)
def test_what_is_sent(wanted, accept, form):
    assert form_of(wanted, accept) == form


@pytest.mark.parametrize("accept", ["text/html", "image/*;q=0", "application/json;q=x", ";;,"])
def test_a_header_that_takes_nothing_of_ours(accept):
    with pytest.raises(RefusedError) as refused:
        form_of(None, accept)
    assert refused.value.status == 406
