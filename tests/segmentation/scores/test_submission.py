"""Submissions: a written one is accepted, and every kind of fault is refused by its name."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from engine.cli.commands import with_underscores
from engine.errors import InputError
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.scores.submission import SubmissionZip, check_submission, find_faults, main

SCENES = [f"{city}_000000_{frame:06d}" for city in ("berlin", "leverkusen", "bielefeld") for frame in (19, 20, 29419)]
SIZE_HW = (16, 32)
SIZES = dict.fromkeys(SCENES, SIZE_HW)


def label_map(seed):
    return np.random.default_rng(seed).choice(np.array(CITYSCAPES.label_ids, np.uint8), SIZE_HW)


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "deep" / "submission.zip"
    with SubmissionZip(path) as archive:
        for number, scene in enumerate(SCENES):
            assert archive.add(f"{scene}_leftImg8bit.png", label_map(number)) == f"{scene}_pred.png"
        assert len(archive) == len(SCENES)
    return path


@pytest.fixture
def folder(submission, tmp_path):
    with zipfile.ZipFile(submission) as archive:
        archive.extractall(tmp_path / "folder")
    return tmp_path / "folder"


def test_what_is_written_is_in_order_and_as_given(submission, folder):
    assert check_submission(submission, SIZES) == check_submission(folder, SIZES) == len(SCENES)
    with zipfile.ZipFile(submission) as archive:
        for number, scene in enumerate(SCENES):
            picture = Image.open(io.BytesIO(archive.read(f"{scene}_pred.png")))
            assert (picture.mode, picture.format) == ("L", "PNG")
            np.testing.assert_array_equal(np.array(picture), label_map(number))
    # Names alone mean the size of Cityscapes.
    faults = find_faults(submission, [f"{scene}_leftImg8bit.png" for scene in SCENES])
    assert {fault.what for fault in faults} == {"is 32x16 (width x height), its image 2048x1024"}


def test_a_bomb_in_a_zip_is_a_fault(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{SCENES[0]}_pred.png", bytes(30_000_000))
    faults = find_faults(tmp_path / "bomb.zip", {SCENES[0]: SIZE_HW})
    assert any("would unpack" in fault.what for fault in faults)


def first(folder):
    return folder / f"{SCENES[0]}_pred.png"


def save(folder, values, **options):
    Image.fromarray(values).save(first(folder), **options)


def train_ids(folder):
    for path in folder.glob("*.png"):
        Image.fromarray(CITYSCAPES.class_by_label[np.array(Image.open(path))]).save(path)


def truncate(folder):
    first(folder).write_bytes(first(folder).read_bytes()[:-40])


def with_value(value):
    ids = label_map(0)
    ids[3, 4:7] = value
    return ids


SPOILED = {
    "missing": (lambda folder: first(folder).unlink(), "missing", "'berlin_000000_000019' has no file."),
    "double": (
        lambda folder: shutil.copy(first(folder), folder / f"{SCENES[0]}_again.png"),
        "double",
        "has 2 files: berlin_000000_000019_again.png, berlin_000000_000019_pred.png",
    ),
    "training ids": (train_ids, "training ids", "has values up to 18, 1 to 6 among them and 8 more. Write the ids"),
    "training ids with 255": (
        lambda folder: save(folder, np.where(CITYSCAPES.class_by_label[label_map(0)] > 9, 255, 2).astype(np.uint8)),
        "training ids",
        "has values up to 2",
    ),
    "half the size": (
        lambda folder: save(folder, label_map(0)[::2, ::2]), "wrong size", "is 16x8 (width x height), its image 32x16"
    ),
    "turned": (lambda folder: save(folder, label_map(0).T), "wrong size", "is 16x32 (width x height)"),
    "colours": (lambda folder: save(folder, CITYSCAPES.color_by_class[label_map(0)]), "wrong format", "is RGB, a col"),
    "16 bits": (lambda folder: save(folder, label_map(0).astype(np.uint16)), "wrong format", "is 16-bit, not one ch"),
    "a JPEG": (lambda folder: save(folder, label_map(0), format="JPEG"), "wrong format", "is a JPEG file, not a PNG"),
    "255": (lambda folder: save(folder, with_value(255)), "unknown values", "has 255 in 3 pixels. Allowed are the"),
    "ignored labels": (lambda folder: save(folder, with_value(0)), "unknown values", "has 0 in 3 pixels"),
    "cut off": (truncate, "unreadable", "cannot be decoded"),
    "no image": (lambda folder: first(folder).write_bytes(b"words"), "unreadable", "cannot be decoded"),
    "another name": (
        lambda folder: shutil.copy(first(folder), folder / "ulm_000000_000001.png"),
        "unexpected",
        "'ulm_000000_000001.png' is named after none of the images. Name each file after its image",
    ),
    "no name": (lambda folder: shutil.copy(first(folder), folder / "0001.png"), "unexpected", "'0001.png' is named"),
}  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_submission_is_refused_by_name(case, form, folder, tmp_path):
    spoil, kind, message = SPOILED[case]
    spoil(folder)
    given = shutil.make_archive(tmp_path / "spoiled", "zip", folder) if form == "zip" else folder
    assert {fault.kind for fault in find_faults(given, SIZES)} == {kind}
    with pytest.raises(InputError) as error:
        check_submission(given, SIZES)
    head, *lines = str(error.value).splitlines()
    assert head == f"the submission '{given}' would be refused:"
    assert len(lines) == 1
    assert lines[0].startswith(f"  {kind}: '")
    assert message in lines[0]
    assert len(lines[0]) < 400


def test_several_faults_are_all_named(folder):
    first(folder).unlink()
    (folder / f"{SCENES[1]}_pred.png").unlink()
    Image.fromarray(label_map(0)[1:]).save(folder / f"{SCENES[2]}_pred.png")
    with pytest.raises(InputError) as error:
        check_submission(folder, SIZES)
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["missing", "wrong size"]
    assert "has no file and 1 more." in lines[0]


def test_a_zip_that_is_damaged_or_none(submission, tmp_path):
    content = bytearray(submission.read_bytes())
    content[60:90] = bytes(30)
    submission.write_bytes(content)
    with pytest.raises(InputError, match=r"unreadable: 'berlin_000000_000019_pred\.png' cannot be"):
        check_submission(submission, SIZES)
    for number, given in enumerate([b"", b"PK no zip"]):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(given)
        with pytest.raises(InputError, match="is neither a folder nor a zip"):
            check_submission(path, SIZES)
    with pytest.raises(InputError, match="does not exist"):
        check_submission(tmp_path / "gone.zip", SIZES)
    with pytest.raises(InputError, match="holds no PNG"):
        check_submission(tmp_path / "deep", SIZES)


def test_files_that_a_mac_or_a_viewer_leaves_play_no_part(folder, tmp_path):
    for name in ("__MACOSX/._a.png", ".DS_Store", "notes.txt", f".{SCENES[0]}.png", f"{SCENES[0]}_pred_overlay.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert check_submission(shutil.make_archive(tmp_path / "mac", "zip", folder), SIZES) == len(SCENES)


def test_what_the_writer_refuses(tmp_path):
    path = tmp_path / "submission.zip"
    good = label_map(0)
    for act, message in [
        (lambda archive: archive.add("photo.png", good), "'photo.png' is not named as the images of Cityscapes"),
        (lambda archive: [archive.add(SCENES[0], good), archive.add(f"{SCENES[0]}_b.png", good)], "Give each image on"),
        (
            lambda archive: archive.add(SCENES[0], with_value(3)),
            "has the value 3, which is not the id of an evaluated label",
        ),
    ]:
        with pytest.raises(InputError, match=message), SubmissionZip(path) as archive:
            act(archive)
    assert list(tmp_path.iterdir()) == []  # neither a file nor half of one
    with pytest.raises(InputError, match=r"must be a zip. Give a path that ends in \.zip"):
        SubmissionZip(tmp_path / "submission.tar")
    with pytest.raises(RuntimeError, match="outside its `with` block"):
        SubmissionZip(path).add(SCENES[0], good)


def test_the_command(submission, folder, tmp_path, capsys):
    for number, scene in enumerate(SCENES):
        for kind in ("leftImg8bit", "gtFine_labelIds"):
            path = tmp_path / kind / scene.split("_")[0] / f"{scene}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(label_map(number)).save(path)
            path.with_name(f"{scene}_gtFine_color.png").write_bytes(path.read_bytes())
    for words in (["--images", tmp_path / "leftImg8bit"], ["--ground-truth", tmp_path / "gtFine_labelIds"]):
        assert main(["--submission", str(submission), *map(str, words)]) == 0
        assert capsys.readouterr().out == f"'{submission}' is in order: 9 label maps\n"
    train_ids(folder)
    assert main(["--submission", str(folder), "--ground_truth", str(tmp_path / "gtFine_labelIds")]) == 2
    out, err = capsys.readouterr()
    assert (out, "training ids:" in err, err.count("\n")) == ("", True, 2)
    for words in ([], ["--images", "a", "--ground-truth", "b"]):
        assert main(["--submission", str(submission), *words]) == 2
        assert "Give the folder: --images or --ground-truth" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["--submission", str(submission), "--ground-truth", str(tmp_path / "leftImg8bit")]) == 2
    assert "holds no _labelIds.png" in capsys.readouterr().err


def test_options_with_dashes_are_those_with_underscores():
    given = ["--ground-truth", "a-b", "--ground-truth=a-b=c-d", "-h", "--", "x-y"]
    assert with_underscores(given) == ["--ground_truth", "a-b", "--ground_truth=a-b=c-d", "-h", "--", "x-y"]
