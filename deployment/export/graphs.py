"""The networks as graphs for export: images in, answers out, with every size that is not named left open.

The graphs hold copies of folded networks. Their outputs have the names of `OUTPUTS`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classification.network.model import Classifier
from deployment.export.kinds.classifier import ClassifierGraph
from deployment.export.kinds.contract import Form, Graph, normalised, prepared
from deployment.export.kinds.headed import HeadedGraph
from deployment.export.kinds.rows import best_rows, table
from deployment.export.operators import suppress
from deployment.export.places import CoarseLevel, resample_onto
from detection.network.anchors import decode_boxes, make_anchors
from detection.network.family import DetectorArchitecture
from detection.network.heads.detector import HeadedDetector
from detection.network.model import EfficientDet
from detection.network.postprocess import clip_boxes
from engine.errors import InputError
from joint.network.model import JointNetwork, SharedMaps
from segmentation.network.deeplab import DeepLabHead
from segmentation.network.model import Segmenter


class DetectionGraph(Graph):
    """A detector: see `BoxOutputs`.

    Args:
        network: the detector; it is copied and folded.
        form: what the graph holds besides.
    """

    network: EfficientDet

    def __init__(self, network: EfficientDet, form: Form) -> None:
        super().__init__()
        self.network = prepared(network)
        self.boxes = BoxOutputs(network.config, len(network.classes), form)
        self.inputs, self.outputs = self.boxes.inputs, self.boxes.outputs
        if network.config.pads_canvas and form.image_hw is None:
            self.multiple = network.config.stride

    def forward(self, images: Tensor, sizes_hw: Tensor | None = None) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB images; see `BoxOutputs`."""
        normal = (
            self.network.normalise(images)
            if self.boxes.fixed
            else normalised(self.network.mean, self.network.std, images)
        )
        return _boxes(self.network, self.boxes, self.network.backbone(normal), images, sizes_hw)


class BoxOutputs(nn.Module):
    """From class logits and box deltas to boxes.

    With a suppression the outputs are, for each image, `max_detections` rows of boxes by falling score:
    `boxes_xyxy` (B, N, 4) in pixels of the canvas, clipped to the image; `scores` (B, N); `class_ids` (B, N), -1 in
    rows that are not used. Without, they are `class_logits` (B, R, K) and `box_deltas` (B, R, 4).

    In Frigate's layout the images fill their canvas, and the output is `detections` (B * N, 7) float32: in each row the
    number of the image, left, top, right and bottom in pixels of the canvas, score, and class.
    """

    anchors: Tensor

    def __init__(self, config: DetectorArchitecture, classes: int, form: Form) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.postprocess = form.postprocess
        self.fixed = form.image_hw is not None
        # The smallest image has one cell at each level; a graph for one size has all its anchors.
        cells = len(config.levels) if form.image_hw is None else sum(
            math.ceil(form.image_hw[0] / 2**level) * math.ceil(form.image_hw[1] / 2**level) for level in config.levels
        )  # fmt: skip
        self.pairs = cells * config.anchors_per_cell * classes
        self.inputs: tuple[str, ...] = ("images",)
        self.outputs: tuple[str, ...] = ("class_logits", "box_deltas")
        if form.postprocess is not None:
            if form.postprocess.nms != "hard":
                msg = (
                    "soft suppression is no operator of any format. Give --nms hard, or --nms outside, which leaves it "
                    "to whoever reads the logits."
                )
                raise InputError(msg)
            self.inputs = ("images", "sizes_hw")
            self.outputs = ("boxes_xyxy", "scores", "class_ids")
        self.flat = form.layout == "frigate"
        if self.flat:
            self.inputs, self.outputs = ("images",), ("detections",)
        if form.image_hw is not None:
            step = config.stride if config.pads_canvas else 1
            canvas_hw = [side + -side % step for side in form.image_hw]
            self.register_buffer("anchors", make_anchors((canvas_hw[0], canvas_hw[1]), config), persistent=False)

    def forward(
        self, class_logits: Tensor, box_deltas: Tensor, image_hw: tuple[int, int], sizes_hw: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The outputs.

        Args:
            class_logits: (B, R, K).
            box_deltas: (B, R, 4).
            image_hw: height and width of the canvas.
            sizes_hw: (B, 2) float32 height and width of each image on its canvas.
        """
        if self.flat:
            sizes_hw = torch.tensor([image_hw], dtype=torch.float32).expand(len(class_logits), 2)
        if self.postprocess is None or sizes_hw is None:
            return class_logits, box_deltas
        config = self.postprocess
        anchors = self.anchors if self.fixed else open_anchors(image_hw, self.config)
        logits, places, class_ids = _candidates(class_logits, config.max_candidates)
        deltas = box_deltas.gather(1, places[..., None].expand(-1, -1, 4))
        boxes = clip_boxes(decode_boxes(deltas, anchors[places]), sizes_hw)
        scores = logits.sigmoid()
        # A box without area, or one that is no number, is none.
        scores = torch.where((boxes[..., 2:] > boxes[..., :2]).all(-1), scores, torch.zeros_like(scores))
        groups = torch.zeros_like(class_ids) if config.class_agnostic else class_ids
        kept: Tensor = suppress(
            boxes, scores, groups, 1 if config.class_agnostic else self.classes,
            config.iou_threshold, config.score_threshold, config.max_detections,
        )  # fmt: skip
        count = min(config.max_detections, config.max_candidates)
        found, best, found_ids = best_rows(boxes, kept, class_ids, count, self.pairs)
        return (table(found, best, found_ids),) if self.flat else (found, best, found_ids)


class SegmentationGraph(Graph):
    """A segmenter: `class_rows` (B, H, W) uint8, or `logits` (B, K, H, W).

    Args:
        network: the segmenter; it is copied and folded.
        form: what the graph holds besides.
    """

    network: Segmenter

    def __init__(self, network: Segmenter, form: Form) -> None:
        super().__init__()
        self.network = prepared(network)
        self.pixels = PixelOutputs(network, form)
        self.outputs = self.pixels.outputs
        if form.image_hw is None and not isinstance(network.head, DeepLabHead):
            self.multiple = network.stride  # the size that such a decoder pads to

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB images."""
        if not isinstance(self.network.head, DeepLabHead):
            return self.pixels.answer(self.network(images))
        found: tuple[Tensor, ...] = self.pixels(
            self.network, self.network.backbone(normalised(self.network.mean, self.network.std, images)), images
        )
        return found


class PixelOutputs(nn.Module):
    """From the backbone's maps to the classes of pixels.

    Args:
        network: the segmenter.
        form: what the graph holds besides.
    """

    def __init__(self, network: Segmenter, form: Form) -> None:
        super().__init__()
        self.argmax = form.argmax
        self.outputs = ("class_rows",) if form.argmax else ("logits",)
        self.alignment = network.config.alignment
        grids = network.backbone.grids((64, 64))  # an even size, where the two paddings differ
        self.strides = (grids[0].stride, grids[-1].stride)
        self.same_padding = grids[0].offset_yx != (0, 0)

    def forward(self, network: Segmenter, maps: list[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        """The outputs, from the maps of stride 4 and of the output stride."""
        head = network.head
        assert isinstance(head, DeepLabHead)
        (skip, *_, deep), (fine, coarse) = maps, self.strides
        context = self.upsampled(head.aspp(deep), skip, images, coarse, fine)
        logits = head.classifier(head.fuse(torch.cat((context, head.skip(skip)), dim=1)))
        return self.answer(self.upsampled(logits, images, images, fine, 1))

    def upsampled(self, maps: Tensor, like: Tensor, images: Tensor, stride: int, onto: int) -> Tensor:
        """A map of one stride at the cells of another."""
        if self.alignment == "corners":
            return F.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=True)
        fine: Tensor = resample_onto(maps, like, images, stride, onto, self.same_padding)
        return fine

    def answer(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Classes or logits."""
        return (logits.argmax(1).to(torch.uint8),) if self.argmax else (logits,)


class JointGraph(Graph):
    """Both answers of a joint network, from one pass.

    Args:
        network: the joint network; it is copied and folded.
        form: what the graph holds besides.
    """

    network: JointNetwork

    def __init__(self, network: JointNetwork, form: Form) -> None:
        super().__init__()
        self.network = prepared(network)
        self.boxes = BoxOutputs(network.detector.config, len(network.detector.classes), form)
        self.pixels = PixelOutputs(network.segmenter, form)
        backbone = self.network.backbone
        maps = zip(backbone.channels, backbone.strides, backbone.levels, strict=True)
        levels = [CoarseLevel(c, stride, 2**level, same_padding=backbone.same_padding) for c, stride, level in maps]
        self.levels = nn.ModuleList(levels[1:])
        self.inputs, self.outputs = self.boxes.inputs, (*self.boxes.outputs, *self.pixels.outputs)

    def forward(self, images: Tensor, sizes_hw: Tensor | None = None) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB images; those of `BoxOutputs`, then those of `PixelOutputs`."""
        network = self.network
        maps = network.backbone(normalised(network.detector.mean, network.detector.std, images))
        reader = network.segmenter.backbone
        assert isinstance(reader, SharedMaps)
        coarse = [level(each, images) for level, each in zip(self.levels, maps[1:], strict=True)]
        boxes = _boxes(network.detector, self.boxes, coarse, images, sizes_hw)
        return *boxes, *self.pixels(network.segmenter, reader.pick(maps), images)


def graph_of(network: nn.Module, form: Form) -> Graph:
    """The graph of a network of any kind.

    Raises:
        InputError: the suppression is one that no format has, or the network is of another kind.
    """
    if isinstance(network, EfficientDet):
        return DetectionGraph(network, form)
    if isinstance(network, HeadedDetector):
        return HeadedGraph(network, form)
    if isinstance(network, Classifier):
        return ClassifierGraph(network)
    if isinstance(network, Segmenter):
        return SegmentationGraph(network, form)
    if type(network) is JointNetwork:
        return JointGraph(network, form)
    msg = (
        f"a {type(network).__name__} computes each answer in a pass of its own, which is no single graph. Export the "
        "detector and the segmenter that it was made of."
    )
    raise InputError(msg)


def open_anchors(image_hw: tuple[int, int], config: DetectorArchitecture) -> Tensor:
    """As `make_anchors`, for sizes that are known only when the graph runs."""
    octaves = torch.arange(config.anchor_octaves, dtype=torch.float64) / config.anchor_octaves
    shapes = torch.tensor(config.anchor_ratios, dtype=torch.float64)
    factors = (2.0 ** octaves[:, None, None] * shapes).reshape(-1, 2)
    levels = []
    for level in config.levels:
        cells = [(side + 2**level - 1) // 2**level for side in image_hw]
        strides = [torch.scalar_tensor(s, dtype=torch.float64) / c for s, c in zip(image_hw, cells, strict=True)]
        ys, xs = ((torch.arange(c, dtype=torch.float64) + 0.5) * s for c, s in zip(cells, strides, strict=True))
        shape = (cells[0], cells[1])
        centres = torch.stack([xs[None, :].expand(shape), ys[:, None].expand(shape)], dim=-1).reshape(-1, 1, 2)
        half_wh = config.anchor_scale * torch.stack(strides[::-1]) * factors / 2
        levels.append(torch.cat([centres - half_wh, centres + half_wh], dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()


def _candidates(class_logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `top_candidates`, where the number of anchors may be open."""
    batch, anchors, classes = class_logits.shape
    best = class_logits.amax(dim=2).topk(torch.sym_min(count, anchors), dim=1).indices.sort(dim=1).values
    logits = class_logits.gather(1, best[..., None].expand(-1, -1, classes)).reshape(batch, -1)
    logits, pairs = logits.topk(torch.sym_min(count, logits.shape[1]), dim=1)
    return logits, best.gather(1, pairs // classes), pairs % classes


def _boxes(
    detector: EfficientDet, boxes: BoxOutputs, features: list[Tensor], images: Tensor, sizes_hw: Tensor | None
) -> tuple[Tensor, ...]:
    pyramid = detector.fpn(features)
    class_logits = detector.class_head.flatten(detector.class_head(pyramid))
    box_deltas = detector.box_head.flatten(detector.box_head(pyramid))
    found: tuple[Tensor, ...] = boxes(class_logits, box_deltas, (images.shape[2], images.shape[3]), sizes_hw)
    return found
