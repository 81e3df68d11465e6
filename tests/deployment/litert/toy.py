"""Small .tflite files that are written operator by operator, without a converter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from deployment.litert.model import Model
from engine.exports.files import KEY, About

HEIGHT, WIDTH, CLASSES = 4, 8, 4
ROWS = HEIGHT * WIDTH * 3 // 4


def empty() -> Model:
    """A graph with nothing in it."""
    tree, graph = schema.ModelT(), schema.SubGraphT()
    tree.version, tree.description, tree.buffers, tree.operatorCodes = 3, "toy", [schema.BufferT()], []
    graph.tensors, graph.operators = [], []
    graph.inputs = graph.outputs = np.array([], dtype=np.int32)
    tree.subgraphs = [graph]
    builder = flatbuffers.Builder(256)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return Model(bytes(builder.Output()), Path("toy.tflite"))


def of_boxes() -> Model:
    """A graph whose deltas and scores are the pixels themselves: see `pixels_as`."""
    model = empty()
    images = model.add_tensor("images", "UINT8", (1, HEIGHT, WIDTH, 3))
    real = model.add_tensor("real", "FLOAT32", (1, HEIGHT, WIDTH, 3))
    model.add_operator("CAST", [images], [real])
    shape = model.add_tensor("shape", "INT32", (3,), data=np.array([1, ROWS, 4], dtype=np.int32))
    flat = model.add_tensor("flat", "FLOAT32", (1, ROWS, 4))
    model.add_operator("RESHAPE", [real, shape], [flat])
    scale = model.add_tensor("scale", "FLOAT32", (), data=np.array(1 / 255, dtype=np.float32))
    scores = model.add_tensor("scores", "FLOAT32", (1, ROWS, 4))
    model.add_operator("MUL", [flat, scale], [scores], table="MulOptions")
    half = model.add_tensor("half", "FLOAT32", (), data=np.array(0.5, dtype=np.float32))
    deltas = model.add_tensor("deltas", "FLOAT32", (1, ROWS, 4))
    model.add_operator("SUB", [scores, half], [deltas], table="SubOptions")
    model.graph.inputs, model.graph.outputs = np.array([images], np.int32), np.array([deltas, scores], np.int32)
    return model


def pixels_as(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deltas and scores (R, 4) of an image (H, W, 3), which `of_boxes` gives."""
    scores = images.reshape(ROWS, 4).astype(np.float64) / 255
    return scores - 0.5, scores


def anchors_yxhw(seed: int = 0) -> np.ndarray:
    """(R, 4) centres and sizes in fractions of the canvas: some reach over its border, and the first is beside it."""
    random = np.random.default_rng(seed)
    anchors = np.concatenate([random.uniform(0, 1, (ROWS, 2)), random.uniform(0.1, 0.6, (ROWS, 2))], axis=1)
    anchors[0] = (1.6, 0.5, 0.2, 0.2)
    return anchors.astype(np.float32)


def about() -> About:
    """What a file with `of_boxes` says of itself."""
    return About(task="detection", model={"member": "lite0"}, batch=1, image_hw=(HEIGHT, WIDTH))


def written(model: Model, path: Path, said: Mapping[str, object] | None = None) -> Path:
    """A model as a file."""
    model.add_metadata(KEY, json.dumps(json.loads(about().to_json()) if said is None else said).encode())
    path.write_bytes(model.to_bytes())
    return path


def computed(content: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a file in its own order, by LiteRT's interpreter alone."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
