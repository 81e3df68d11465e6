"""Which tool wrote a JSON file, by the keys at its top; nothing below them is parsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import msgspec

from engine.annotations.files import SetFiles, folder_of
from engine.annotations.json_text import utf8

# Formats that share the suffix but are not read, with what their first level has.
_EXPORT = "Export the set as COCO, Pascal VOC or YOLO."
UNREAD: Mapping[str, tuple[str, str]] = {  # why, and the remedy
    "COCO results": ("detections and no labels", "Give the file that has 'images' and 'categories' too."),
    "COCO captions": ("texts without boxes", "Give the file 'instances_...json' of the same set."),
    "COCO panoptic": ("segments without boxes", "Give the file 'instances_...json' of the same set."),
    "CreateML": ("not read", _EXPORT),
    "Datumaro": ("not read", _EXPORT),
    "Cityscapes polygons": ("masks", "Use python -m segmentation, or make boxes with python -m joint boxes."),
}
_FEW = 8  # files of a folder that are opened to see whether all are of one kind
_ONE_EACH = ("LabelMe", "Supervisely")  # kinds with a file for each image
_found: WeakKeyDictionary[SetFiles, Mapping[str, list[str]]] = WeakKeyDictionary()


def json_files(files: SetFiles) -> Mapping[str, list[str]]:
    """The JSON files of a set by the tool that wrote them, looked at once; files of other kinds are left out."""
    if files not in _found:
        _found[files] = _by_kind(files)
    return _found[files]


def _by_kind(files: SetFiles) -> Mapping[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for name in files.ending(".json"):
        folders.setdefault(folder_of(name), []).append(name)
    found: dict[str, list[str]] = {}
    for names in folders.values():
        first = [_kind(files, name) for name in names[:_FEW]]
        if len(first) == _FEW and first[0] in _ONE_EACH and len(set(first)) == 1:
            found.setdefault(first[0], []).extend(names)
            continue
        for name, kind in zip(names, first + [_kind(files, name) for name in names[_FEW:]], strict=True):
            if kind is not None:
                found.setdefault(kind, []).append(name)
    return found


def _kind(files: SetFiles, name: str) -> str | None:
    raw = utf8(files.raw(name))
    try:
        top = msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        # NaN and a fault deep in the file end this parser too; what the first characters say is then the best guess.
        head = bytes(raw[: 1 << 16])
        return "COCO" if all(key in head for key in (b'"images"', b'"file_name"')) else None
    if isinstance(top, list):
        return _kind_of_list(top)
    return _kind_of_object(top)


def _kind_of_object(top: Mapping[str, msgspec.Raw]) -> str | None:
    if "images" in top and "annotations" in top:
        if "categories" not in top:
            return "COCO captions"
        return "COCO panoptic" if "segments_info" in _keys(_first(top["annotations"])) else "COCO"
    if "images" in top and "categories" in top:
        return "COCO"
    if "shapes" in top and ("imagePath" in top or "imageData" in top or "version" in top):
        return "LabelMe"
    if "_via_img_metadata" in top or {"metadata", "view", "file", "attribute"} <= set(top):
        return "VIA"
    if "items" in top and "categories" in top:
        return "Datumaro"
    if "imgWidth" in top and "objects" in top:
        return "Cityscapes polygons"
    if "size" in top and "objects" in top:
        return "Supervisely"
    first = _keys(next(iter(top.values()), msgspec.Raw(b"null")))
    return "VIA" if {"filename", "regions"} <= first else None


def _kind_of_list(top: Sequence[msgspec.Raw]) -> str | None:
    keys = _keys(top[0]) if top else frozenset()
    if {"image_id", "category_id"} <= keys and "score" in keys:
        return "COCO results"
    if "data" in keys and keys & {"annotations", "completions", "predictions"}:
        return "Label Studio"
    if "image" in keys and "annotations" in keys:
        return "CreateML"
    return "Label Studio (JSON-MIN)" if "image" in keys and keys & {"annotation_id", "annotator"} else None


def _first(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        return next(iter(msgspec.json.decode(raw, type=list[msgspec.Raw])), msgspec.Raw(b"null"))
    except msgspec.DecodeError:
        return msgspec.Raw(b"null")


def _keys(raw: msgspec.Raw) -> frozenset[str]:
    try:
        return frozenset(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]))
    except msgspec.DecodeError:
        return frozenset()
