"""The data of all three tasks: batches that no worker and no interruption changes, and images that cannot be read."""

from __future__ import annotations

import json
import pickle
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.utilities.combined_loader import CombinedLoader

from detection.data.module import CocoDataModule
from engine.data.module import SplitData
from engine.data.sampling.settings import BoxSampling, MaskSampling
from engine.errors import InputError
from engine.scenes.generate import write_scenes
from segmentation.data.module import SegmentationDataModule
from tests.engine.trainers import trainer_of
from tests.joint.sets import PHOTOS, both, two

TASKS = ("detection", "segmentation", "joint", "mixed")
# Images that come more often than others, because of their classes.
SAMPLED = ("segmentation by rare_class", "detection by class_balanced", "mixed by repeat_factor")
EPOCHS = 3
Data = SplitData[Any, Any, Any]
Make = Callable[..., Data]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`streets/` in the form of Cityscapes, and `photos/` in that of COCO, which are other scenes."""
    folder: Path = tmp_path_factory.mktemp("sets")
    write_scenes(folder / "streets", {"train": 6, "val": 3}, (64, 128), seed=1, workers=1)
    write_scenes(folder / "drawn", {"train": 9, "val": 4}, (72, 96), seed=2, workers=1)
    for split in ("train", "val"):
        shutil.copytree(folder / "drawn/leftImg8bit" / split, folder / "photos" / split)
        shutil.copy(folder / f"drawn/annotations/instances_{split}.json", folder / f"photos/{split}.json")
    return folder


def make(task: str, root: Path, **options: Any) -> Data:
    """A data module with batches of 2."""
    options = {"batch_size": 2, "num_workers": 0} | options
    task, _, sampling = task.partition(" by ")
    if sampling:
        kind = MaskSampling if task == "segmentation" else BoxSampling
        options["sampling"] = kind(sampling, threshold=0.5) if sampling == "repeat_factor" else kind(sampling)
    if task == "detection":
        return CocoDataModule(str(root / "photos"), **PHOTOS, image_size=64, **options)
    if task == "segmentation":
        return SegmentationDataModule(root=str(root / "streets"), crop_size=48, **options)
    if task == "joint":
        return both(root / "streets", canvas_size=64, **options)
    return two(root / "photos", root / "streets", canvas_size=64, ratio=(2, 1), **options)


def prints(batch: Any) -> tuple[int, ...]:
    """Numbers that change when any part of a batch changes."""
    parts = [part.contiguous() for part in batch if isinstance(part, torch.Tensor)]
    return tuple(
        zlib.crc32(str(part.tolist() if part.dtype == torch.float32 else "").encode(), zlib.crc32(part.numpy()))
        for part in parts
    )


def batches(data: Data, epochs: int = EPOCHS) -> Iterator[tuple[int, ...]]:
    loader = data.train_dataloader()
    return (prints(batch) for _ in range(epochs) for batch in loader)


def begun(data: Data) -> Data:
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def whole(root: Path) -> dict[str, list[tuple[int, ...]]]:
    """The batches of an uninterrupted training of each task, without workers, made when they are first asked for."""

    class Whole(dict[str, list[tuple[int, ...]]]):
        def __missing__(self, task: str) -> list[tuple[int, ...]]:
            self[task] = list(batches(begun(make(task, root))))
            return self[task]

    return Whole()


@pytest.mark.parametrize(
    "task", [*TASKS, SAMPLED[0], *(pytest.param(task, marks=pytest.mark.slow) for task in SAMPLED[1:])]
)
class TestExactness:
    def test_no_batch_comes_twice_and_none_depends_on_the_process(self, root: Path, whole: Any, task: str) -> None:
        assert len(set(whole[task])) == len(whole[task]) >= 2 * EPOCHS
        torch.manual_seed(99)
        np.random.default_rng(99)
        assert list(batches(begun(make(task, root)))) == whole[task]

    def test_another_seed_gives_other_batches(
        self, root: Path, whole: Any, task: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PL_GLOBAL_SEED", "7")
        assert not set(batches(begun(make(task, root)))) & set(whole[task])

    @pytest.mark.by_default("mixed")
    @settings(max_examples=5, deadline=None)
    @given(data=st.data())
    def test_any_workers_and_any_interruptions(self, root: Path, whole: Any, task: str, data: Any) -> None:
        """At each, the state goes through JSON as a checkpoint would carry it, and other workers go on."""
        total = len(whole[task])
        cuts = sorted(data.draw(st.sets(st.integers(1, total - 1), min_size=1, max_size=2)))
        seen: list[tuple[int, ...]] = []
        state = None
        for end in [*cuts, total]:
            part = make(task, root, num_workers=data.draw(st.sampled_from([0, 1, 2])))
            if state is not None:
                part.load_state_dict(state)
            reading = batches(begun(part), 2 * EPOCHS)
            while len(seen) < end:
                seen.append(next(reading))
                state = json.loads(json.dumps(part.state_dict()))
        assert seen == whole[task]

    @pytest.mark.slow
    def test_workers_of_a_fork_server_are_as_good(
        self, root: Path, whole: Any, task: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They take the place of forked ones where the process uses CUDA; all that a worker needs can be sent."""
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        assert list(batches(begun(make(task, root, num_workers=1)))) == whole[task]

    def test_two_devices_share_each_batch(self, root: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
        alone, *shared = [begun(make(task, root, batch_size=size)) for size in (4, 2, 2)]
        monkeypatch.setattr(type(alone), "task", None)
        for rank, data in enumerate(shared):
            data.trainer = trainer_of(None, world=2, rank=rank)
        for one, *parts in zip(*(data.train_dataloader() for data in (alone, *shared)), strict=True):
            images = torch.cat([part.images for part in parts])
            assert sorted(prints((image,)) for image in images) == sorted(prints((image,)) for image in one.images)


def copied(root: Path, to: Path) -> Path:
    for name in ("photos", "streets"):
        shutil.copytree(root / name, to / name)
    return to


def pictures(root: Path, task: str, split: str) -> list[Path]:
    """The image files that a task reads for a split."""
    folders = {"detection": ["photos"], "mixed": ["photos", "streets/leftImg8bit"]}.get(task, ["streets/leftImg8bit"])
    return [path for folder in folders for path in sorted((root / folder / split).rglob("*.png"))]


@pytest.mark.parametrize("task", TASKS)
class TestBadImages:
    @pytest.mark.by_default("2-mixed", "0")
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_broken_one_stops_with_its_name(self, root: Path, tmp_path: Path, task: str, workers: int) -> None:
        bad = pictures(copied(root, tmp_path), task, "train")[1]
        bad.write_bytes(b"\x89PNG\r\n\x1a\n no more")
        data = begun(make(task, tmp_path, num_workers=workers))
        loader = data.train_dataloader()
        with pytest.raises(InputError) as error:
            [list(loader) for _ in range(2)]
        CombinedLoader(loader).reset()  # as Lightning does: the workers end now, not with the traceback
        assert len(str(error.value).splitlines()) == 1
        assert str(bad) in str(error.value)
        assert str(error.value).endswith("--data.on_bad_image skip.")

    @pytest.mark.by_default("mixed", "segmentation")
    def test_skipped_ones_give_way_to_others(
        self, root: Path, tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two neighbours in training and one in validation; with any number of workers the same batches."""
        copied(root, tmp_path)
        bad = [*pictures(tmp_path, task, "train")[1:3], pictures(tmp_path, task, "val")[-1]]
        for path in bad:
            path.write_bytes(b"no image")
        seen, said = [], []
        for workers in (0, 2):
            data = begun(make(task, tmp_path, num_workers=workers, on_bad_image="skip"))
            whole = [prints(batch) for batch in data.val_dataloader()]
            seen.append((whole, list(batches(data, 2))))
            caplog.clear()
            data.teardown("fit")
            said.append(caplog.messages)
        assert seen[0] == seen[1]
        assert said[0] == said[1]
        (line,) = said[0]
        scored = len(pictures(tmp_path, task, "val")) - 1
        assert line.startswith(
            f"3 images could not be used: 2 of train; 1 of val, whose scores are those of the other {scored}; "
        )
        assert all(str(path) in line for path in bad)

    def test_missing_ones_are_counted_first(
        self, root: Path, tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        if task != "detection" and task != "mixed":
            pytest.skip("these pictures are listed, and so exist")
        copied(root, tmp_path)
        paths = pictures(tmp_path, task, "train")
        for path in paths[2:4]:
            path.unlink()
        with pytest.raises(InputError, match=r"^2 of 9 images of '.*' are missing, the first is '.*'\. .*skip\.$"):
            make(task, tmp_path).setup("fit")
        data = begun(make(task, tmp_path, on_bad_image="skip"))
        assert caplog.messages[-1].startswith("2 of 9 images of")
        assert len(list(batches(data, 1))) == len(data.train_dataloader())

    def test_all_broken_is_an_end(self, root: Path, tmp_path: Path, task: str) -> None:
        for path in pictures(copied(root, tmp_path), task, "train"):
            path.write_bytes(b"no image")
        data = begun(make(task, tmp_path, on_bad_image="skip"))
        with pytest.raises(InputError, match=r"none of the \d images of .* can be used\. The first: "):
            list(batches(data, 1))


def masks(root: Path, split: str) -> list[Path]:
    return sorted((root / "streets/gtFine" / split).rglob("*_labelIds.png"))


@pytest.mark.parametrize("task", TASKS[1:])
class TestBadMasks:
    @pytest.mark.by_default("mixed")
    def test_missing_and_broken_ones(
        self, root: Path, tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone, broken = masks(copied(root, tmp_path), "train")[1:3]
        lost = masks(tmp_path, "val")[0]
        gone.unlink()
        with pytest.raises(InputError, match="1 of 6 images have no mask"):
            make(task, tmp_path).setup("fit")
        lost.unlink()
        broken.write_bytes(b"no image")
        data = begun(make(task, tmp_path, on_bad_image="skip"))
        assert len(list(data.val_dataloader())) > 0
        seen = list(batches(data, 3))
        caplog.clear()
        data.teardown("fit")
        assert "3 images could not be used: 2 of train; 1 of val, whose scores are those of the other " in caplog.text
        assert all(path.name.partition("_gtFine")[0] in caplog.text for path in (gone, broken, lost))
        assert seen == list(batches(begun(make(task, tmp_path, on_bad_image="skip", num_workers=2)), 3))


@pytest.mark.parametrize("task", TASKS)
def test_loaders_can_be_sent_to_processes(task, root):
    """Where workers are not forked, as on macOS, on Windows, and once CUDA is used, all of a loader is pickled."""
    data = make(task, root, num_workers=1)
    data.setup("fit")
    validation = data.val_dataloader()
    parts = (data.collate, data.collate_whole, validation.dataset, validation.collate_fn)
    assert len(pickle.loads(pickle.dumps(parts))) == len(parts)
