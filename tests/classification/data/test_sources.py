"""Every form that sets of labelled images have on disk, and what is refused."""

from __future__ import annotations

import csv
import http.server
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classification.data.sets import cifar
from classification.data.sets.cifar import CifarData, read_cifar
from classification.data.sets.folders import read_folders
from classification.data.sets.imagenet import imagenet_names, read_imagenet
from classification.data.sets.tables import TableData, read_tables
from classification.data.sources import class_counts
from engine.errors import InputError
from engine.reading.reader import PixelReader
from tests.classification.data.cifar_files import write_cifar10

READ = PixelReader()


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (200, 30, 30)).save(path)


class TestFolders:
    def test_splits_share_their_classes(self, tmp_path):
        draw(tmp_path / "train/cat/a.png", tmp_path / "train/dog/deep/b.png", tmp_path / "valid/dog/c.png")
        found = read_folders(tmp_path, None, None)
        assert set(found) == {"train", "val"}
        assert found["val"].classes.names == found["train"].classes.names == ("cat", "dog")
        assert found["val"].targets.tolist() == [1]
        assert found["train"].read_image(1, READ).shape == (6, 8, 3)
        assert class_counts(found["train"].targets, 2).tolist() == [1, 1]

    def test_one_tree_is_split_by_names_alone(self, tmp_path):
        draw(*(tmp_path / f"{name}/{number}.png" for name in ("a", "b") for number in range(30)))
        before = read_folders(tmp_path, "0.7/0.3", None)
        draw(*(tmp_path / f"a/more{number}.png" for number in range(9)))
        after = read_folders(tmp_path, "0.7/0.3", None)
        assert set(before["val"].paths) == {path for path in after["val"].paths if "more" not in path.name}
        assert len(before["train"]) + len(before["val"]) == 60
        grouped = read_folders(tmp_path, "0.5/0.5", r"(a|b)/\d")
        sides = {split: {path.parent.name for path in files.paths} for split, files in grouped.items()}
        assert sides["train"] != sides["val"]

    def test_a_class_may_be_called_train(self, tmp_path):
        draw(*(tmp_path / f"{name}/{number}.png" for name in ("train", "bus") for number in range(12)))
        assert read_folders(tmp_path, "0.5/0.5", None)["train"].classes.names == ("bus", "train")

    @pytest.mark.parametrize(
        ("files", "split", "says"),
        [
            (["cat/a.png", "dog/b.png"], None, "Give shares of train, val and test"),
            (["train/cat/a.png", "val/dog/b.png"], "0.5/0.5", "Leave --data.split out"),
            (["train/a.png", "val/dog/b.png"], None, "lie in no folder of a class"),
            (["train/cat/a.png", "more/dog/b.png"], None, "Move the others elsewhere"),
            (["train/cat/a.png", "val/cat/b.png"], None, "Give a folder with two classes"),
            (["note.txt"], None, "holds no image"),
        ],
    )
    def test_what_is_refused(self, tmp_path, files, split, says):
        for name in files:
            (draw if name.endswith("png") else Path.touch)(tmp_path / name)
        with pytest.raises(InputError, match=says):
            read_folders(tmp_path, split, None)


class TestTables:
    def table(self, path: Path, rows: list[tuple[str, ...]]) -> None:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows(rows)

    def test_one_label_with_a_column_of_splits(self, tmp_path):
        rows = [("id", "kind", "part"), ("a", "cat", "train"), ("b", "dog", "Validation"), ("c", "dog", "train")]
        self.table(tmp_path / "labels.csv", rows)
        data = TableData(file="labels.csv", images="pics", suffix=".jpg", split_column="part")
        found = read_tables(tmp_path, data, None, None)
        assert found["train"].targets.tolist() == [0, 1]
        assert found["val"].paths == [tmp_path / "pics/b.jpg"]

    def test_several_labels_in_one_cell_and_in_columns(self, tmp_path):
        self.table(tmp_path / "a.csv", [("f", "l"), ("1.png", "sky|sea"), ("2.png", ""), ("3.png", "sea")])
        found = read_tables(tmp_path, TableData(train="a.csv", separator="|"), None, None)["train"]
        assert found.classes.names == ("sea", "sky")
        assert found.classes.several
        assert found.targets.tolist() == [[1, 1], [0, 0], [1, 0]]
        self.table(tmp_path / "b.csv", [("f", "sea", "x", "sky"), ("1.png", "1", "?", "0"), ("2.png", "0", "?", "1")])
        data = TableData(train="b.csv", label_columns=("sky", "sea"))
        assert read_tables(tmp_path, data, None, None)["train"].targets.tolist() == [[0, 1], [1, 0]]

    @pytest.mark.parametrize(
        ("options", "split", "says"),
        [
            ({}, None, "Give data.table.file"),
            ({"file": "no.csv"}, "0.5/0.5", "does not exist"),
            ({"file": "a.csv"}, None, "neither is given"),
            ({"file": "a.csv", "label_column": "lable"}, "0.5/0.5", "Did you mean 'label'"),
            ({"file": "a.csv", "label_columns": ("label",)}, "0.5/0.5", "allowed are 0 and 1"),
            ({"file": "a.csv", "split_column": "label"}, None, "Name splits train, val or test"),
            ({"train": "a.csv"}, "0.5/0.5", "Leave data.split"),
        ],
    )
    def test_what_is_refused(self, tmp_path, options, split, says):
        self.table(tmp_path / "a.csv", [("file", "label"), ("1.png", "cat")])
        with pytest.raises(InputError, match=says):
            read_tables(tmp_path, TableData(**options), split, None)

    def test_a_line_of_other_length_is_named(self, tmp_path):
        self.table(tmp_path / "a.csv", [("file", "label"), ("1.png", "cat"), ("2.png",)])
        with pytest.raises(InputError, match="line 3 has 1 cells"):
            read_tables(tmp_path, TableData(train="a.csv"), None, None)


class TestImageNet:
    def test_folders_of_synsets_have_the_rows_of_published_weights(self, tmp_path):
        draw(
            tmp_path / "train/n01443537/a.JPEG", tmp_path / "train/n01440764/b.JPEG", tmp_path / "val/n01443537/c.JPEG"
        )
        found = read_imagenet(tmp_path)
        names = imagenet_names()
        assert len(names) == 1000
        assert list(names) == sorted(names)
        assert [names[row] for row in found["val"].targets] == ["n01443537 goldfish"]
        assert sorted(found["train"].targets.tolist()) == [0, 1]

    def test_the_archive_of_kaggle(self, tmp_path):
        place = tmp_path / "ILSVRC/Data/CLS-LOC"
        draw(place / "train/n01443537/a.JPEG", place / "val/ILSVRC2012_val_00000001.JPEG")
        lines = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 1 2 3 4\n"
        (tmp_path / "LOC_val_solution.csv").write_text(lines)
        found = read_imagenet(tmp_path)
        assert found["val"].targets.tolist() == found["train"].targets.tolist() == [1]
        assert found["val"].read_image(0, READ).shape == (6, 8, 3)

    def test_another_set_is_refused(self, tmp_path):
        draw(tmp_path / "train/cat/a.png", tmp_path / "train/dog/b.png")
        with pytest.raises(InputError, match="no class of ImageNet"):
            read_imagenet(tmp_path)


class TestCifar:
    def test_ten_classes_in_the_binary_form(self, tmp_path):
        written = write_cifar10(tmp_path / "cifar-10-batches-bin", np.random.default_rng(0))
        found = read_cifar(tmp_path, CifarData(val_share=0.2))
        assert [len(found[split]) for split in ("train", "val", "test")] == [80, 20, 20]
        assert not set(found["train"].places) & set(found["val"].places)
        test = written["test_batch.bin"]
        assert found["test"].targets.tolist() == test[:, 0].tolist()
        # Red, green and blue planes, each by rows; see the format's page.
        image = found["test"].read_image(7, READ)
        for channel in range(3):
            start = 1 + 1024 * channel
            assert np.array_equal(image[..., channel], test[7, start : start + 1024].reshape(32, 32))
        place = int(found["train"].places[50])
        assert found["train"].targets[50] == written[f"data_batch_{place // 20 + 1}.bin"][place % 20, 0]
        assert found["train"].image_name(50) == f"data_batch_{place // 20 + 1}.bin/{place % 20}"
        assert set(read_cifar(tmp_path, CifarData(val_share=0))["val"].places) == set(range(20))

    def test_a_hundred_classes_fine_and_coarse(self, tmp_path):
        records = np.random.default_rng(1).integers(0, 20, (30, 3074), dtype=np.uint8)
        records[:, 1] += 70
        for name in ("train.bin", "test.bin"):
            (tmp_path / name).write_bytes(records.tobytes())
        (tmp_path / "fine_label_names.txt").write_text("\n".join(f"f{row}" for row in range(100)))
        (tmp_path / "coarse_label_names.txt").write_text("\n".join(f"c{row}" for row in range(20)))
        fine, coarse = (read_cifar(tmp_path, CifarData(coarse=coarse))["test"] for coarse in (False, True))
        assert fine.targets.tolist() == records[:, 1].tolist()
        assert coarse.targets.tolist() == records[:, 0].tolist()
        assert np.array_equal(fine.read_image(0, READ)[0, :5, 0], records[0, 2:7])

    def test_what_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"--data.cifar.download"):
            read_cifar(tmp_path, CifarData())
        (tmp_path / "cifar-10-batches-py").mkdir()
        (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(b"\x80\x02")
        with pytest.raises(InputError, match="pickles, which could run code"):
            read_cifar(tmp_path, CifarData())
        folder = tmp_path / "cut/cifar-10-batches-bin"
        write_cifar10(folder, np.random.default_rng(0))
        with pytest.raises(InputError, match="CIFAR-10 has no coarse classes"):
            read_cifar(tmp_path / "cut", CifarData(coarse=True))
        (folder / "data_batch_3.bin").write_bytes((folder / "data_batch_3.bin").read_bytes()[:-5])
        with pytest.raises(InputError, match="no whole records"):
            read_cifar(tmp_path / "cut", CifarData())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class TestDownload:
    def test_an_archive_with_the_right_checksum_is_unpacked(self, served, tmp_path, monkeypatch):
        folder, address = served
        write_cifar10(tmp_path / "make/cifar-10-batches-bin", np.random.default_rng(0))
        archive = folder / "cifar-10-binary.tar.gz"
        with tarfile.open(archive, "w:gz") as content:
            content.add(tmp_path / "make/cifar-10-batches-bin", "cifar-10-batches-bin")
            content.add(Path(__file__), "../evil.py")  # leads out of the folder, and is no file of the set
        import hashlib
        from dataclasses import replace

        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        monkeypatch.setitem(cifar.FORMS, "cifar10", replace(cifar.FORMS["cifar10"], sha256=digest))
        target = cifar.download(tmp_path / "root", "cifar10", address)
        assert sorted(path.name for path in target.iterdir())[0] == "batches.meta.txt"
        assert len(read_cifar(tmp_path / "root", CifarData())["test"]) == 20
        assert not list(tmp_path.rglob("evil.py"))
        assert not list((tmp_path / "root").glob("*.gz"))

    def test_another_checksum_and_no_answer_are_refused(self, served, tmp_path):
        folder, address = served
        (folder / "cifar-100-binary.tar.gz").write_bytes(b"not the archive")
        with pytest.raises(InputError, match="another hash"):
            cifar.download(tmp_path / "root", "cifar100", address)
        assert not list((tmp_path / "root").iterdir())
        with pytest.raises(InputError, match="cannot download"):
            cifar.download(tmp_path / "root", "cifar10", address)
        (tmp_path / "root/cifar-10-binary.tar.gz").write_bytes(b"of before")
        with pytest.raises(InputError, match="Delete it and fetch it again"):
            cifar.download(tmp_path / "root", "cifar10", address)
