"""Annotation files: the same content as pycocotools reads, little memory, and clear messages for bad files."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from detection.data.coco import CocoAnnotations
from engine.errors import InputError


def small_set() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "seven.jpg", "height": 40, "width": 60},
            {"id": 900000000001, "file_name": "straße/zwölf.png"},
            {"id": 3, "file_name": "three.jpg", "height": 50, "width": 50},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 0, "area": 12},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 0.25, 10, 20.5], "segmentation": [[1, 2, 3]]},
            {"id": 3, "image_id": 3, "category_id": 2, "bbox": [5, 5, 0, 7], "iscrowd": True},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 2, "name": "bicycle", "supercategory": "vehicle"}],
    }


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gt.json"


class TestContent:
    def test_by_hand(self, file: Path) -> None:
        read = CocoAnnotations.read(written(file, small_set()))
        assert len(read) == 3
        assert read.image_ids.tolist() == [7, 900000000001, 3]
        assert [read.file_name(i) for i in range(3)] == ["seven.jpg", "straße/zwölf.png", "three.jpg"]
        assert [read.size_hw(i) for i in range(3)] == [(40, 60), None, (50, 50)]
        assert read.classes.names == ("bicycle", "toothbrush")
        assert read.classes.category_ids == (2, 90)
        first, empty, last = (read.boxes_of(i) for i in range(3))
        np.testing.assert_array_equal(first.boxes_xyxy, [[0.5, 0.25, 10.5, 20.75]])
        assert first.class_ids.tolist() == [0]
        assert empty.boxes_xyxy.shape == (0, 4)
        np.testing.assert_array_equal(last.boxes_xyxy, [[1, 2, 4, 6], [5, 5, 5, 12]])
        assert last.class_ids.tolist() == [1, 0]
        assert last.iscrowd.tolist() == [False, True]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_equals_pycocotools(self, file: Path, data: st.DataObject) -> None:
        ids = st.integers(0, 2**40)
        image_ids = data.draw(st.lists(ids, min_size=1, max_size=6, unique=True))
        category_ids = data.draw(st.lists(ids, min_size=1, max_size=5, unique=True))
        side = st.floats(0, 1000, width=32)
        count = data.draw(st.integers(0, 12))
        content = {
            "annotations": [
                {
                    "bbox": [data.draw(side) for _ in range(4)],
                    "id": number,
                    "image_id": data.draw(st.sampled_from(image_ids)),
                    "category_id": data.draw(st.sampled_from(category_ids)),
                    "iscrowd": data.draw(st.integers(0, 1)),
                    "area": 1.0,
                }
                for number in range(count)
            ],
            "categories": [{"id": i, "name": f"c{i}"} for i in category_ids],
            "info": {"nested": [{"id": 3, "bbox": [1]}]},
            "images": [{"id": i, "file_name": f"{i}.jpg", "height": 9, "width": 8} for i in image_ids],
        }
        read = CocoAnnotations.read(written(file, content))
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(file))
        for index, image_id in enumerate(read.image_ids.tolist()):
            wanted = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
            found = read.boxes_of(index)
            assert read.file_name(index) == coco.imgs[image_id]["file_name"]
            assert [read.classes.category_ids[row] for row in found.class_ids] == [a["category_id"] for a in wanted]
            assert found.iscrowd.tolist() == [bool(a["iscrowd"]) for a in wanted]
            boxes = np.array([a["bbox"] for a in wanted], dtype=np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            np.testing.assert_array_equal(found.boxes_xyxy, boxes.astype(np.float32))

    def test_a_test_set_has_no_annotations(self, file: Path) -> None:
        content = small_set()
        del content["annotations"]
        read = CocoAnnotations.read(written(file, content))
        assert len(read) == 3
        assert read.boxes_of(2).boxes_xyxy.shape == (0, 4)

    @pytest.mark.real
    def test_real_coco(self, real_data: Path) -> None:
        path = real_data / "coco2017_train80" / "instances.json"
        read = CocoAnnotations.read(path)
        content = json.loads(path.read_text())
        assert len(read) == 80
        assert len(read.boxes_xywh) == len(content["annotations"])
        assert read.classes.category_ids == tuple(sorted(c["id"] for c in content["categories"]))
        of_image = [a for a in content["annotations"] if a["image_id"] == content["images"][5]["id"]]
        np.testing.assert_allclose(read.boxes_of(5).boxes_xyxy[:, :2], [a["bbox"][:2] for a in of_image], rtol=1e-6)


class TestMemory:
    def test_peak_is_far_below_the_file(self, file: Path) -> None:
        content = small_set()
        polygon = [[float(i) for i in range(200)]]
        content["annotations"] = [
            {"segmentation": polygon, "image_id": 3, "bbox": [1, 2, 3, 4], "category_id": 2, "id": i}
            for i in range(20000)
        ]
        written(file, content)
        tracemalloc.start()
        read = CocoAnnotations.read(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(read.boxes_xywh) == 20000
        assert file.stat().st_size > 20e6
        # 160 bytes of tensors and parser objects per box, and a few hundred kB besides; the polygons take no memory.
        assert peak < 20000 * 250

    def test_a_spawned_worker_gets_shared_memory(self, file: Path) -> None:
        read = CocoAnnotations.read(written(file, small_set()))
        sent = bytes(ForkingPickler.dumps(read))
        second = bytes(ForkingPickler.dumps(read))  # another worker gets the same memory, not a copy
        received, other = pickle.loads(sent), pickle.loads(second)
        columns = [name for name, value in vars(read).items() if isinstance(value, np.ndarray)]
        assert len(columns) == 9
        for name in columns:
            np.testing.assert_array_equal(getattr(received, name), getattr(read, name))
            # Both look at the same memory, and at the tensor in it that torch shares.
            getattr(received, name).flat[0] = 1
            assert getattr(read, name).flat[0] == 1
            assert getattr(other, name).flat[0] == 1
            assert torch.from_numpy(getattr(read, name)).untyped_storage().data_ptr() == getattr(read, name).ctypes.data
        received.boxes_xywh[0, 0] = 42.0
        assert read.boxes_xywh[0, 0] == 42.0

    def test_an_empty_column_travels_too(self, file: Path) -> None:
        read = CocoAnnotations.read(written(file, small_set() | {"annotations": []}))
        assert pickle.loads(bytes(ForkingPickler.dumps(read))).boxes_of(0).boxes_xyxy.shape == (0, 4)


def changed(**changes: Any) -> dict[str, Any]:
    """The small set with one key of its second annotation, or of the file, replaced."""
    content = small_set()
    for key, value in changes.items():
        (content if key in content else content["annotations"][1])[key] = value
    return content


BAD = {
    "image id twice": (changed(images=small_set()["images"] * 2), "image id 3 occurs more than once (3 such)"),
    "unknown image": (changed(image_id=8), "1 annotations whose image_id the file does not list, the first is "),
    "unknown image beyond": (changed(image_id=2**62), f"annotation 2 with image_id {2**62}"),
    "unknown category": (changed(category_id=1), "annotation 2 with category_id 1"),
    "category twice": (changed(categories=[{"id": 2, "name": "a"}] * 2), "category ids [2] occur more than once"),
    "negative width": (changed(bbox=[1, 2, -3, 4]), "annotation 2 has the box [1.0, 2.0, -3.0, 4.0]; allowed is"),
    "NaN": (changed(bbox=[1, 2, float("nan"), 4]), "annotation 2 has the box [1, 2, nan, 4]"),
    "infinity": (changed(bbox=[1, 2, float("-inf"), 4]), "annotation 2 has the box [1, 2, -inf, 4]"),
    "too large for float32": (changed(bbox=[1, 2, 1e300, 4]), "annotation 2 has the box [1.0, 2.0, 1e+300, 4.0]"),
    "three numbers": (changed(bbox=[1, 2, 3]), "annotations[1]: annotation 2 has a 'bbox' of 3 numbers in place of 4"),
    "null box": (changed(bbox=None), "annotations[1]: annotation 2 has no 'bbox'"),
    "id as text": (changed(image_id="seven"), "annotations[1].image_id: expected int, got str"),
    "id of 70 bits": (changed(image_id=2**70), "too large for 64 bits"),
    "no images": ({k: v for k, v in small_set().items() if k != "images"}, "it has no 'images'"),
    "no categories": ({"images": [], "annotations": []}, "it has no 'categories'"),
    "no file name": (changed(images=[{"id": 1}]), "image 1 has no 'file_name' (1 such)"),
    "empty images": (changed(images=[], annotations=[]), "'images' is empty"),
    "empty categories": (changed(categories=[]), "'categories' is empty"),
    "a list": ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "it: expected object, got array"),
    "not JSON": ("hello", "it is not valid JSON: JSON is malformed: invalid character (byte 0)"),
    "cut off": (json.dumps(small_set())[:-40], "it is not valid JSON: Input data was truncated"),
    "empty file": ("", "it cannot be read"),
    "NaN area": (changed(area=float("nan")), "annotation 2 has the area nan. Give a finite number"),
    "infinite area": (json.dumps(small_set()).replace("12}", "1e999}"), "annotation 1 has the area inf"),
}


class TestBadFiles:
    @pytest.mark.parametrize("name", BAD)
    def test_one_short_message(self, file: Path, name: str) -> None:
        content, wording = BAD[name]
        with pytest.raises(InputError) as caught:
            CocoAnnotations.read(written(file, content))
        message = str(caught.value)
        assert wording in message
        assert message.startswith(f"annotation file '{file}': ")
        assert "\n" not in message
        assert len(message) < 330

    def test_missing_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"annotation file '.*no\.json' does not exist"):
            CocoAnnotations.read(tmp_path / "no.json")
        with pytest.raises(InputError, match="Is a directory"):
            CocoAnnotations.read(tmp_path)
