"""Answers as JSON and as pictures, and which of them a client asks for."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from classification.prediction.classified import Classified
from deployment.serving.limits import RefusedError
from deployment.serving.predicting import AnyAnswer
from detection.data.masks import encoded
from detection.prediction.found import Found
from joint.prediction.found import JointFound
from segmentation.inference.pictures import class_pixels, index_image
from segmentation.inference.segmented import Segmented

Form = Literal["application/json", "image/jpeg", "image/png"]
Masks = Literal["rle", "png", "none"]
Json: TypeAlias = dict[str, object]
TOP = 5  # classes of an image that are told
FORMS: tuple[Form, ...] = ("application/json", "image/jpeg", "image/png")  # of equal wishes the first is sent


def form_of(wanted: Literal["json", "picture"] | None, accept: str) -> Form:
    """What is sent.

    Args:
        wanted: the query's `as`, which is stronger than the header.
        accept: the header `Accept` (RFC 9110, 12.5.1); empty for none.

    Raises:
        RefusedError: the header takes neither JSON nor a picture.
    """
    if wanted == "json":
        return FORMS[0]
    weights = {form: _weight(form, accept) for form in (FORMS if wanted is None else FORMS[1:])}
    best = max(weights, key=lambda form: weights[form])
    if weights[best] > 0:
        return best
    if wanted == "picture":
        return "image/jpeg"
    msg = f"Accept is '{accept[:80]}'; allowed: {', '.join(FORMS)}. Name one of them, or ask for ?as=json."
    raise RefusedError(406, msg)


def _weight(form: Form, accept: str) -> float:
    """The weight of a form; the range that names it most closely decides."""
    ranges = (form, f"{form.partition('/')[0]}/*", "*/*")
    found: dict[str, float] = {}
    for part in (accept or "*/*").split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = 0.0
    return next((found[name] for name in ranges if name in found), 0.0)


def picture_of(answer: AnyAnswer, content: bytes, form: Form) -> bytes:
    """The image with the answer drawn on it, as JPEG or PNG."""
    return _file(answer.draw(content), "PNG" if form == "image/png" else "JPEG")


def document_of(answer: AnyAnswer, masks: Masks) -> Json:
    """An answer as JSON.

    Boxes are left, top, right, bottom in pixels of the image that was sent.

    Args:
        answer: the answer.
        masks: of objects and of classes of pixels: as run lengths of COCO, as PNG in base64, or left out. The PNG of an
            object is 255 in it and 0 elsewhere; that of all classes holds their label ids.
    """
    if isinstance(answer, Classified):
        return _ranked(answer)
    document: Json = {"size_hw": list(answer.size_hw)}
    found, segmented = _parts(answer)
    if found is not None:
        document["objects"] = _objects(found, masks)
    if segmented is not None:
        document["classes"] = _classes(segmented, masks)
        if masks == "png":
            document["mask_png"] = _text(index_image(segmented.class_ids, segmented.classes))
    return document


def _ranked(answer: Classified) -> Json:
    """The likeliest classes of an image, and those that are found."""
    top = [
        {"label": each.label, "class_id": each.class_id, "probability": round(each.probability, 6)}
        for each in answer.top(TOP)
    ]
    return {"labels": answer.labels, "top": top}


def _parts(answer: Found | Segmented | JointFound) -> tuple[Found | None, Segmented | None]:
    if isinstance(answer, JointFound):
        return answer.found, answer.segmented
    return (answer, None) if isinstance(answer, Found) else (None, answer)


def _objects(found: Found, masks: Masks) -> list[Json]:
    objects: list[Json] = [
        {"label": label, "category_id": category_id, "score": score, "box_xyxy": box}
        for label, category_id, score, box in zip(
            found.labels,
            found.category_ids.tolist(),
            np.round(found.scores.astype(np.float64), 6).tolist(),
            np.round(found.boxes_xyxy.astype(np.float64), 3).tolist(),
            strict=True,
        )
    ]
    if found.masks is not None and masks == "rle":
        for one, mask in zip(objects, found.masks, strict=True):
            one["mask_rle"] = dict(mask)
    elif found.masks is not None and masks == "png":
        for one, pixels in zip(objects, found.mask_pixels(), strict=True):
            one["mask_png"] = _text(Image.fromarray(pixels * np.uint8(255)))
    return objects


def _classes(segmented: Segmented, masks: Masks) -> list[Json]:
    """The classes that occur."""
    known, counts = segmented.classes, class_pixels(segmented.class_ids, segmented.classes)
    rows = np.flatnonzero(counts).tolist()
    classes: list[Json] = [
        {
            "label": known.names[row],
            "label_id": known.label_ids[row],
            "color": list(known.colors[row]),
            "pixels": int(counts[row]),
        }
        for row in rows
    ]
    if masks == "rle":
        for one, row in zip(classes, rows, strict=True):
            one["mask_rle"] = _run_lengths(segmented.class_ids == row)
    return classes


def _run_lengths(mask: npt.NDArray[np.bool_]) -> Mapping[str, object]:
    [one] = encoded(mask[None])
    return dict(one)


def _text(picture: Image.Image) -> str:
    return base64.b64encode(_file(picture, "PNG")).decode()


def _file(picture: Image.Image, kind: Literal["PNG", "JPEG"]) -> bytes:
    file = io.BytesIO()
    if kind == "PNG":
        picture.save(file, kind, compress_level=1)
    else:
        picture.save(file, kind, quality=92)
    return file.getvalue()


def with_picture(document: Json, answer: AnyAnswer, content: bytes) -> Json:
    """The document with the drawn picture in it, as an address that a browser shows."""
    picture = base64.b64encode(picture_of(answer, content, "image/jpeg")).decode()
    return {**document, "picture": f"data:image/jpeg;base64,{picture}"}
