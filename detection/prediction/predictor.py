"""Objects in images: load a detector, give it a picture, and get boxes in the picture's own pixels.

detector = load("runs/detection/demo/checkpoints/last.ckpt")
found = detector.predict("street.jpg", score_threshold=0.5)
found.draw("street.jpg").save("boxes.png")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.network.detector import Detector
from detection.network.heads.kinds.pasting import pasted
from detection.network.heads.parts import refuse_postprocess
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.spec import SPEC
from detection.tiles.inference import Inference
from detection.tiles.passes import Passes, as_it_is
from detection.tiles.running import boxes_in_tiles
from detection.tiles.seams import TileBoxes
from detection.weights.exported import load_exported
from detection.weights.load import load_network
from engine.errors import InputError
from engine.exports.files import check_exported_use, is_exported
from engine.large.opening import open_raster
from engine.large.picture_file import ArrayPixels
from engine.large.tiling import Tiling
from engine.prediction.canvas import Canvas, CanvasPolicy, OnCanvas, canvas_limit
from engine.prediction.predictor import Predictor, Preparation, check_many, check_numbers
from engine.reading.images import Letterbox, UInt8Array
from engine.reading.pixels import Source, pixels_of
from engine.reading.raster_file import PixelSource
from engine.reading.reader import PixelReader
from engine.sharing.shareable import Origin, Shareable
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import stored_settings

DEFAULT_SCORE = 0.3
TILES = 4  # tiles that are computed together


class DetectorSettings(TypedDict, total=False):
    """What a call may ask for in place of the predictor's own settings; None leaves these as they are.

    Attributes:
        score_threshold: keep detections above this score; 0.3 where neither this nor `postprocess` is given.
        canvas: `full` lays every image on the canvas of training and validation; `tight` on one no larger than it
            needs, which is faster.
        image_size: height and width of the canvas in pixels, or the side of a square; None is what the detector was
            made for.
        postprocess: the other settings; its own score threshold is replaced.
        window: side in pixels of the tiles in which an image is computed; by default it is computed whole.
        overlap: pixels that neighbouring tiles share; by default a quarter of the window.
        margin: boxes closer than this to an inner end of their tile give way to a neighbour's; by default a quarter of
            the overlap.
        scales: sizes, relative to the canvas, at which an image or tile is computed; boxes are fused.
        flip: fuse with the boxes of the mirrored image.
    """

    score_threshold: float
    canvas: CanvasPolicy
    image_size: int | tuple[int, int] | None
    postprocess: Postprocess | None
    window: int | None
    overlap: int | None
    margin: int | None
    scales: Sequence[float] | None
    flip: bool | None


class DetectionPredictor(Shareable, Predictor[OnCanvas, Found]):
    """A detector with everything that prediction needs.

    Args:
        network: the detector.
        postprocess: suppression settings.
        canvas: see `DetectorSettings`.
        image_size: see `DetectorSettings`.
        inference: how an image is computed: whole or in tiles, at several scales, mirrored.

    Raises:
        InputError: the canvas is too small, the network lays images on another one itself, or `canvas` is not an
            allowed word, or is `tight` with tiles, which fill theirs.
    """

    spec = SPEC
    part = "detector"
    network: Detector

    def __init__(
        self,
        network: Detector,
        postprocess: Postprocess = Postprocess(score_threshold=DEFAULT_SCORE),
        canvas: CanvasPolicy = "full",
        image_size: int | tuple[int, int] | None = None,
        inference: Inference = Inference(),
    ) -> None:
        super().__init__(network, network.reading)
        self.postprocess = postprocess
        inside = network.takes_pictures
        limit_hw = canvas_limit(network.config.image_size, image_size, inside=inside)
        self.canvas = Canvas(limit_hw, network.fill_color, network.stride, canvas, inside)
        self.inference = inference
        inference.check_fits(network.config.head, lays_out=inside)
        refuse_postprocess(network.config.head, postprocess)
        if inference.window is not None and canvas == "tight":
            msg = "canvas is tight, but tiles of one window are laid on one canvas, which they fill. Leave canvas out."
            raise InputError(msg)

    @property
    def classes(self) -> BoxClasses:
        """The detector's class list."""
        return self.network.classes

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The colour of the canvas beside the image."""
        return self.network.fill_color

    @property
    def prepare(self) -> Preparation[OnCanvas]:
        """Lays an image on its canvas; an image that is computed several times is left as it is."""
        return self.passes.laying if self.inference.is_plain else as_it_is

    @property
    def passes(self) -> Passes:
        """How an image is laid on the canvas in each pass."""
        return Passes(self.canvas, self.inference)

    def settings(self) -> dict[str, object]:
        """Head, member, architecture and classes, and how boxes are suppressed and images computed."""
        scored = replace(self.postprocess, score_threshold=Postprocess().score_threshold)  # as `answering` undoes it
        own = self.inference
        tiles = {"window": own.window, "overlap": own.overlap, "margin": own.margin}
        answers = {"postprocess": asdict(scored), "inference": tiles}
        return {"head": self.network.config.head, **self.network.settings(), **answers}

    def with_settings(self, **settings: Unpack[DetectorSettings]) -> DetectionPredictor:
        """A predictor of the same network with other settings.

        Raises:
            InputError: a setting is out of range.
        """
        postprocess = asked_postprocess(self.postprocess, settings.get("postprocess"), settings.get("score_threshold"))
        policy = settings.get("canvas", self.canvas.policy)
        size = settings.get("image_size")
        limit = self.canvas.limit_hw if size is None else size
        inference = self.inference.changed(
            settings.get("window"), settings.get("overlap"), settings.get("margin"),
            settings.get("scales"), settings.get("flip"),
        )  # fmt: skip
        return DetectionPredictor(self.network, postprocess, policy, limit, inference).with_reading(self.reading)

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> list[Found]:
        """The objects of images of one size, in pixels of the originals: on canvases, or as they are."""
        letterboxes = [sample.letterbox for sample in samples]
        if self.inference.is_plain:
            detections = self._detections(images, letterboxes, self.postprocess)
        else:
            config = self.passes.postprocess(self.postprocess, suppressed=self.network.suppresses)
            detections = self.passes.fused(
                images, lambda canvases, boxes: self._detections(canvases, boxes, config), self.postprocess
            )
        return found_in(detections, self.classes, letterboxes, self.reader)

    def _detections(self, images: Tensor, letterboxes: Sequence[Letterbox], postprocess: Postprocess) -> Detections:
        batch = batch_on_canvas(images, letterboxes)
        if self.network.suppresses:
            return self.network.detect(batch, postprocess)
        predictions = self.network.predictions(images)
        check_numbers(*predictions)
        return self.network.detections(predictions, batch, postprocess)

    def find(
        self,
        pixels: PixelSource,
        *,
        batch: int = TILES,
        workers: int = 2,
        on_tiles: Callable[[int], object] = lambda count: None,
    ) -> Found:
        """The objects of a picture of any size, computed in tiles from windows of its file.

        Args:
            pixels: the picture; see `engine.large.opening.open_raster`.
            batch: tiles that are computed together.
            workers: threads that read ahead of the network.
            on_tiles: called with the number of tiles computed since its last call.

        Raises:
            InputError: the file is damaged, or the settings have no window.
        """
        tiling = self.tiling(pixels.size_hw)
        found = boxes_in_tiles(
            self._find_tiles, pixels, tiling, self.postprocess, batch=batch,
            fill_color=self.fill_color, workers=workers, on_tiles=on_tiles,
        )  # fmt: skip
        return self._found(found, pixels.size_hw)

    def tiling(self, size_hw: tuple[int, int]) -> Tiling:
        """The tiles of a picture of this height and width.

        Raises:
            InputError: the settings have no window.
        """
        tiling = self.inference.tiling(size_hw, min(self.canvas.limit_hw), self.network.config.finest_stride)
        if tiling is None:
            msg = "tiles need a window, their side in pixels. Give window."
            raise InputError(msg)
        return tiling

    def _find_tiles(self, images: Sequence[UInt8Array]) -> list[TileBoxes]:
        answers = self.run([self.prepare(image) for image in images])
        return [TileBoxes(one.boxes_xyxy.astype(np.float64), one.scores, one.class_ids) for one in answers]

    def _found(self, boxes: TileBoxes, size_hw: tuple[int, int]) -> Found:
        names, category_ids = row_names(self.classes), np.array(self.classes.category_ids, dtype=np.int64)
        rows = boxes.class_ids
        labels = [names[class_id] for class_id in rows.tolist()]
        boxes_xyxy = boxes.boxes_xyxy.astype(np.float32)
        return Found(boxes_xyxy, boxes.scores, labels, rows, category_ids[rows], size_hw, self.reader)

    def predict(self, image: Source, **settings: Unpack[DetectorSettings]) -> Found:
        """Find objects in one image: a path or an (H, W, 3) uint8 RGB array.

        Raises:
            InputError: the image is missing, cannot be read or is not an (H, W, 3) uint8 array, or a setting is out of
                range.
        """
        return self.predict_many([image], **settings)[0]

    def predict_many(
        self, images: Sequence[Source], *, batch_size: int = 8, **settings: Unpack[DetectorSettings]
    ) -> list[Found]:
        """Find objects in each of several images.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            batch_size: images that are computed together.
            settings: see `DetectorSettings`.

        Raises:
            InputError: as `predict`, or `images` is a single image.
        """
        predictor = self.with_settings(**settings) if settings else self
        if predictor.inference.window is None:
            return super(DetectionPredictor, predictor).predict_many(images, batch_size=batch_size)
        check_many(images, batch_size)
        self.network.eval()
        return [predictor._in_tiles(image, batch_size) for image in images]

    def _in_tiles(self, image: Source, batch: int) -> Found:
        """The objects of one image; a file is read in windows."""
        with closing(self._opened(image)) as pixels:
            return self.find(pixels, batch=batch)

    def _opened(self, image: Source) -> PixelSource:
        if isinstance(image, str | Path):
            return open_raster(image, usual=self.reading)
        return ArrayPixels(pixels_of(image, self.reader))


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> DetectionPredictor:
    """A detector ready to predict.

    Args:
        source: a checkpoint written by `python -m detection fit`, a folder that `save_pretrained` wrote,
            `hf://owner/name` of a model hub, the name of a published detector such as `tf_efficientdet_d0`, a file of
            a kind that `detection.weights.load` knows, such as one written by `python -m detection convert`, or one
            that `python -m deployment export` wrote.
        device: where it computes; exported files compute on the CPU.
        fold: fold its batch norms, which is faster; leave this out to train it further.

    Raises:
        InputError: the file is missing, damaged or of another kind, or the name is unknown.
    """
    source = found_source(source, "detection")
    if is_exported(source):
        check_exported_use(source, device, fold=fold)
        exported = load_exported(source)
        stored = exported.runtime.about.settings("inference")
        return DetectionPredictor(exported, answering(exported.own_postprocess), inference=restored_inference(stored))
    detector = load_network(source).to(device)
    postprocess = stored_postprocess(source, "detection")
    stored = stored_settings(source, "inference") or {}
    network = detector.fold() if fold else detector
    predictor = DetectionPredictor(network, postprocess, inference=restored_inference(stored))
    predictor.origin = Origin.of(source)
    return predictor


def restored_inference(stored: Mapping[str, object]) -> Inference:
    """How images are computed, from what a checkpoint holds of it; whole, for one without."""
    make: Callable[..., Inference] = Inference
    return make(**stored)


def stored_postprocess(source: str | Path, task: str) -> Postprocess:
    """The suppression settings that a checkpoint was trained and scored with, or else the usual ones.

    The score above which boxes are answers is not taken from them: scores are measured down to almost 0.
    """
    stored = stored_settings(found_source(source, task), "postprocess") or {}
    make: Callable[..., Postprocess] = Postprocess
    return answering(make(**stored))


def answering(postprocess: Postprocess) -> Postprocess:
    """The same suppression, with the score above which boxes are answers."""
    return replace(postprocess, score_threshold=DEFAULT_SCORE)


def asked_postprocess(own: Postprocess, given: Postprocess | None, score_threshold: float | None) -> Postprocess:
    """Suppression settings of a call: given values replace the predictor's own."""
    if score_threshold is None:
        score_threshold = own.score_threshold if given is None else DEFAULT_SCORE
    return replace(given or own, score_threshold=score_threshold)


def batch_on_canvas(images: Tensor, letterboxes: Sequence[Letterbox]) -> DetectionBatch:
    """A batch without labels.

    Args:
        images: (B, 3, H, W) uint8 RGB canvases.
        letterboxes: where the images lie on them.
    """
    count, device = len(letterboxes), images.device
    return DetectionBatch(
        images,
        boxes_xyxy=torch.zeros(count, 0, 4, device=device),
        class_ids=torch.zeros(count, 0, dtype=torch.int64, device=device),
        image_ids=torch.arange(count, device=device),
        scales=torch.tensor([box.scale for box in letterboxes], dtype=torch.float32, device=device),
        sizes_hw=torch.tensor([box.image_hw for box in letterboxes], dtype=torch.int64, device=device),
    )


def found_in(
    detections: Detections,
    classes: BoxClasses,
    letterboxes: Sequence[Letterbox],
    read: PixelReader = PixelReader(),
) -> list[Found]:
    """The answers for the images of a batch, from detections in original pixels."""
    # To the host as whole tensors: each copy waits for the device.
    boxes, scores = detections.boxes_xyxy.float().cpu().numpy(), detections.scores.float().cpu().numpy()
    class_ids = detections.class_ids.cpu().numpy()
    category_ids = np.array(classes.category_ids, dtype=np.int64)
    names = row_names(classes)
    found = []
    for row, (letterbox, count) in enumerate(zip(letterboxes, (class_ids >= 0).sum(1).tolist(), strict=True)):
        rows = class_ids[row, :count]
        labels = [names[class_id] for class_id in rows.tolist()]
        masks = None
        if detections.masks is not None:
            masks = pasted(detections.masks[row, :count], detections.boxes_xyxy[row, :count], letterbox.image_hw)
        own = (boxes[row, :count], scores[row, :count], labels, rows, category_ids[rows], letterbox.image_hw, read)
        found.append(Found(*own, masks=masks))
    return found


def row_names(classes: BoxClasses) -> list[str]:
    """What each row of a class list is called; one without a name is called by its category."""
    return [name or f"id {category_id}" for name, category_id in zip(classes.names, classes.category_ids, strict=True)]
