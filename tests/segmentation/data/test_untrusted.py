"""What lies beside the files of Cityscapes, and what was cut from them, is told apart."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from segmentation.data.cityscapes.files import CityscapesFiles, read_instance_ids
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.masks import MaskReader
from segmentation.scores.label_files import read_instances


@pytest.mark.parametrize("read", [read_instance_ids, read_instances])
def test_instances_of_8_bits_are_refused(tmp_path, read):
    path = tmp_path / "munster_000000_000019_gtFine_instanceIds.png"
    values = np.full((4, 6), 26001, np.uint16)
    Image.fromarray(values).save(path)
    assert (read(path) == 26001).all()
    Image.fromarray((values % 256).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match=r"has 8 bits.*16"):
        read(path)


@pytest.mark.parametrize("hidden", [("leftImg8bit",), ("labelIds",), ("leftImg8bit", "labelIds"), (".city",)])
def test_hidden_files_are_left_out(tmp_path, hidden):
    for city in ("aachen", *(".city" for kind in hidden if kind == ".city")):
        for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            path = tmp_path / folder / "train" / city / f"aachen_000000_000019_{ending}.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (6, 4)).save(path)
            if any(ending.endswith(kind) for kind in hidden):
                path.with_name(f"._{path.name}").write_bytes(b"a Mac's notes")
    assert [pair.image.parent.name for pair in CityscapesFiles(tmp_path, ["train"]).pairs] == ["aachen"]


@pytest.mark.parametrize("forms", [("NFC", "NFD", "NFC"), ("NFD", "NFC", "NFD"), ("NFC", "NFD", "NFD")])
def test_one_name_in_two_spellings_pairs(tmp_path, forms):
    image, mask, line = (unicodedata.normalize(form, "Straße/café") for form in forms)
    for folder, name in (("images", image), ("masks", mask)):
        path = tmp_path / folder / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (6, 4)).save(path)
    (tmp_path / "list.txt").write_text(f"{line}.png\n", encoding="utf-8")
    reader = MaskReader.__new__(MaskReader)  # nothing is read
    found = MaskFolder(tmp_path / "images", tmp_path / "masks", reader, list_file=tmp_path / "list.txt")
    assert [(pair.image.stem, pair.mask.stem) for pair in found.pairs] == [
        (image.rpartition("/")[2], mask.rpartition("/")[2])
    ]
