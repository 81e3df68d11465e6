"""What a network in an ONNX file finds in a picture, by NumPy, Pillow and ONNX Runtime alone.

python onnx_client.py detector.onnx photograph.jpg [drawn.png]
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def find(session: onnxruntime.InferenceSession, picture: Image.Image, least_score: float = 0.3) -> dict:
    """`objects`, with boxes in pixels of the RGB picture; `pixels`, (H, W) rows of `pixel_names`; what the file has."""
    about = json.loads(session.get_modelmeta().custom_metadata_map["effdense"])
    width, height = picture.size
    canvas_hw = about["image_hw"] or about["canvas_hw"]  # letter-boxed: scaled to fit, at the top left
    scale = min(canvas_hw[0] / height, canvas_hw[1] / width) if canvas_hw else 1.0
    scaled_hw = [max(1, int(side * scale)) for side in (height, width)]
    canvas_hw = [side + -side % about["multiple"] for side in canvas_hw or scaled_hw]
    canvas = Image.new("RGB", canvas_hw[::-1], tuple(about["fill_color"]))
    canvas.paste(picture.resize(scaled_hw[::-1], Image.Resampling.BILINEAR))
    images = np.stack([np.asarray(canvas).transpose(2, 0, 1)] * (about["batch"] or 1))
    given = {"images": images, "sizes_hw": np.array([[height * scale, width * scale]] * len(images), np.float32)}
    found = session.run(None, {entry.name: given[entry.name] for entry in session.get_inputs()})
    values = {entry.name: value[0] for entry, value in zip(session.get_outputs(), found, strict=True)}
    if "box_deltas" in values:
        sys.exit("This file leaves the suppression of boxes to its reader. Export it without --nms outside.")
    answer = {}
    if "boxes_xyxy" in values:
        boxes = np.clip(values["boxes_xyxy"] / np.float32(scale), 0, [width, height, width, height])
        answer["objects"] = [
            {"name": about["names"][row] or f"id {about['category_ids'][row]}", "score": score, "box_xyxy": box}
            for row, score, box in zip(values["class_ids"], values["scores"].tolist(), boxes.tolist(), strict=True)
            if row >= 0 and score > least_score
        ]
    if "logits" in values:
        values["class_rows"] = values["logits"].argmax(0)
    if "class_rows" in values:  # each pixel has the class of the nearest one on the canvas
        ys, xs = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip((height, width), scaled_hw, strict=True))
        answer["pixels"], answer["pixel_names"] = values["class_rows"][ys[:, None], xs], about["pixel_names"]
    return answer


if __name__ == "__main__":
    if len(sys.argv) < 3 or (missing := [name for name in sys.argv[1:3] if not Path(name).is_file()]):
        sys.exit(__doc__ if len(sys.argv) < 3 else f"No file {missing[0]!r}. Give a network and a picture.")
    picture = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
    answer = find(onnxruntime.InferenceSession(sys.argv[1]), picture)
    if "pixels" in answer:
        names, pixels = answer.pop("pixel_names"), answer.pop("pixels").astype(np.uint8)
        answer["shares"] = {name: float((pixels == row).mean()) for row, name in enumerate(names)}
        picture = Image.blend(picture, Image.fromarray(pixels * 67).convert("RGB"), 0.5)
    for one in answer.get("objects", []):
        ImageDraw.Draw(picture).rectangle(one["box_xyxy"], outline="red", width=2)
    for name in sys.argv[3:4]:
        picture.save(name)
    print(json.dumps(answer, indent=1))
