"""The network, its post-processing and its losses against effdet 0.4.1 with the same random weights."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import effdet
import pytest
import torch
from effdet.bench import DetBenchPredict, DetBenchTrain

from detection.data.batch import DetectionBatch
from detection.network.anchors import make_anchors
from detection.network.family import FAMILY
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess, postprocess
from detection.weights.load import PUBLISHED, export_effdet, load_effdet
from detection.weights.recognise import layout_of_keys, published_name
from engine.errors import InputError

Maps = tuple[list[torch.Tensor], list[torch.Tensor]]
# Every key and shape of effdet 0.4.1's 32 networks with published weights.
MANIFEST = json.loads(gzip.decompress((Path(__file__).parents[2] / "data" / "effdet_manifest.json.gz").read_bytes()))
# Networks whose files differ in no key and no shape.
TWINS = [*({f"tf_efficientdet_d{phi}", f"tf_efficientdet_d{phi}_ap"} for phi in range(6)),
         {"tf_efficientdet_d6", "tf_efficientdet_d7"}]  # fmt: skip
OTHER_BACKBONES = {"resdet50", "cspresdet50", "cspresdext50pan", "cspdarkdet53m"}
QUICK = ["tf_efficientdet_d0", "tf_efficientdet_d0_ap", "tf_efficientdet_lite0", "efficientdet_d0", "efficientdet_q0",
         "efficientdet_q1", "efficientdetv2_dt"]  # fmt: skip
PARAMETERS = {  # published checkpoints, efficientdet-pytorch README and google/automl
    "d0": 3_880_067, "d1": 6_625_898, "d2": 8_097_039, "d3": 12_032_296, "d4": 20_723_675, "d5": 33_653_315,
    "d6": 51_871_782, "d7": 51_871_782, "d7x": 77_147_166, "lite0": 3_243_470, "lite1": 4_248_318,
    "lite2": 5_252_334, "lite3": 8_350_862, "lite3x": 9_280_862, "lite4": 15_130_894,
}  # fmt: skip


def randomise(network: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Random weights and statistics of sensible size; no tensor has values that would hide a mix-up.

    Each batch norm gets the statistics of its own input, or the logits of the deep members would reach thousands.
    """
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith("edge_weights"):
            value.uniform_(0.5, 1.0, generator=generator)
        elif key.endswith("bias") and "predict" not in key:
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
        elif value.dim() == 1 and value.dtype.is_floating_point and "running" not in key and "predict" not in key:
            value.uniform_(0.8, 1.2, generator=generator)

    def calibrate(norm: torch.nn.BatchNorm2d, x: tuple[torch.Tensor]) -> None:
        # Means per channel, one variance for all: a channel that hardly varies must not be enlarged.
        norm.running_mean = x[0].mean((0, 2, 3))
        norm.running_var = torch.full_like(norm.running_mean, float(x[0].var()))

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
    logits = torch.cat([found.flatten() for found in network.eval()(inputs)[0]])
    for hook in hooks:
        hook.remove()
    # The heads of the deep members tell hardly one place from another: all scores would be equal to 1e-4.
    factor = max(1.0, 0.5 / float(logits.std()))
    # Above 10 scores are equal to 1e-4, as those of the best hundred boxes of the deepest would be.
    largest = float(logits.max())
    network.class_net.predict.conv_pw.weight *= factor if largest * factor < 8 else 3 / largest


@torch.no_grad()
def pair(
    published: str, size: tuple[int, int], dtype: torch.dtype = torch.float32, **settings: object
) -> tuple[EfficientDet, torch.nn.Module]:
    """Our network and effdet's with equal weights, at a canvas that effdet is built for."""
    config = effdet.get_efficientdet_config(published)
    config.image_size = size
    for key, value in settings.items():
        config[key] = value
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    entry = PUBLISHED[published]
    ours = EfficientDet(entry.architecture(image_size=size), config.num_classes).eval()
    randomise(theirs, ours.normalise(images(2, size)))
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    load_effdet(ours, theirs.state_dict(), "effdet")
    return ours, theirs


def images(count: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.by_default("d0", "d3", "d7x", "lite0", "lite3x")
@pytest.mark.parametrize("name", FAMILY)
def test_parameter_count_is_the_published_less_redundant_biases(name: str) -> None:
    with torch.device("meta"):
        model = EfficientDet(name)
    levels = len(model.config.levels)
    nodes = 2 * (levels - 1) * model.config.fpn_cells
    laterals = (levels - 2 if levels == 5 else 3) + 2 + 1  # P3 P4 P5 down, P4 P5 up, P6
    folded = model.config.fpn_channels * (nodes + 2 * model.config.head_repeats)
    folded += model.config.fpn_channels * laterals
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name] - folded


def relative(found: tuple[list[torch.Tensor], ...], expected: tuple[list[torch.Tensor], ...]) -> float:
    """The largest error of the class maps and of the box maps, over the largest value of those maps."""
    shares = []
    for own, other in zip(found, expected, strict=True):
        worst = max(float((a - b).abs().max()) for a, b in zip(own, other, strict=True))
        shares.append(worst / max(float(b.abs().max()) for b in other))
    return max(shares)


@pytest.mark.by_default(
    "tf_efficientdet_lite0", "tf_efficientdet_d0", "efficientdet_d1", "efficientdet_q1", "efficientdetv2_dt",
    "tf_efficientdet_d7x",
)  # fmt: skip
@pytest.mark.parametrize("name", PUBLISHED)
def test_exported_keys_and_shapes_are_the_manifests(name: str) -> None:
    entry = PUBLISHED[name]
    with torch.device("meta"):
        model = EfficientDet(entry.architecture())
    exported = export_effdet(model, redundant_bias=entry.redundant_bias, level_first=entry.level_first)
    assert entry.file == MANIFEST[name]["file"]
    assert {k: list(v.shape) for k, v in exported.items()} == MANIFEST[name]["tensors"]


@pytest.mark.parametrize("name", MANIFEST)
def test_all_layouts_are_recognised_by_their_keys(name: str) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in MANIFEST[name]["tensors"].items()}
    if name in OTHER_BACKBONES:
        with pytest.raises(InputError, match=rf"'file\.pth' is effdet's {name}, on a (ResNet|CSP)\S+ backbone\. Only "):
            layout_of_keys(state, "file.pth")
        return
    assert layout_of_keys(state, "file.pth") == "effdet"
    twins = next((pair for pair in TWINS if name in pair), None)
    if twins is None:
        assert published_name(state, "file.pth") == name
    else:
        with pytest.raises(InputError, match=" and ".join(sorted(twins)) + " alike. Say which by layout_of"):
            published_name(state, "file.pth")


def test_the_manifest_is_read_whole() -> None:
    assert set(MANIFEST) == set(PUBLISHED) | OTHER_BACKBONES
    assert len(MANIFEST) == 32


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_that_no_tensor_tells_are_effdets(name: str) -> None:
    theirs, entry = effdet.get_efficientdet_config(name), PUBLISHED[name]
    ours = entry.architecture()
    default = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # effdet/data/input_config.py
    assert ours.image_size == tuple(theirs.image_size)
    assert (ours.levels[0], ours.max_level) == (theirs.min_level, theirs.max_level)
    assert (ours.anchor_scale, ours.anchor_octaves) == (theirs.anchor_scale, theirs.num_scales)
    assert ours.padding == ("same" if theirs.pad_type == "same" else "symmetric")
    assert (ours.norm_eps, ours.norm_momentum) == (theirs.norm_kwargs.eps, theirs.norm_kwargs.momentum)
    assert ours.activation == ("relu6" if theirs.act_type == "relu6" else "silu")
    assert {key: tuple(theirs.get(key, value)) for key, value in default.items()} == {
        "mean": ours.mean,
        "std": ours.std,
    }
    assert ours.fill == {"mean": "mean", 0: "black"}[theirs.get("fill_color", "mean")]  # 0 for `_ap`
    resampling = (theirs.downsample_type, theirs.upsample_type)
    assert resampling == {"pool": ("max", "nearest"), "bilinear": ("bilinear", "bilinear")}[ours.resampling]
    assert (entry.redundant_bias, entry.level_first) == (theirs.redundant_bias, theirs.head_bn_level_first)
    assert ours.backbone == theirs.backbone_name
    if not name.startswith("tf_efficientdet_d0"):  # ours as google/automl: no paths are dropped in D0
        assert ours.drop_path == theirs.backbone_args.drop_path_rate


@pytest.mark.by_default("efficientdet_d0", "tf_efficientdet_lite0")
@pytest.mark.parametrize("name", QUICK)
@torch.no_grad()
def test_class_and_box_maps(name: str) -> None:
    size = (128, 256)
    ours, theirs = pair(name, size)
    pixels = images(1, size)
    assert relative(ours(pixels), theirs(ours.normalise(pixels))) < 1e-5
    # And from our network back into effdet's, whose redundant biases were not zero.
    entry = PUBLISHED[name]
    exported = export_effdet(ours, redundant_bias=entry.redundant_bias, level_first=entry.level_first)
    before = theirs(ours.normalise(pixels))
    theirs.load_state_dict(exported, strict=True)
    assert relative(theirs(ours.normalise(pixels)), before) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_class_and_box_maps_of_all(name: str) -> None:
    """Uses double precision, where rounding hides no error: float32 alone moves effdet's own D7 by 1e-5."""
    size = (256, 256) if name.endswith("d7x") else (128, 128)
    ours, theirs = pair(name, size, torch.float64)
    pixels = images(1, size)
    assert relative(ours(pixels), theirs(ours.normalise(pixels))) < 1e-12


def test_round_trip_through_the_published_layout() -> None:
    ours, _ = pair("tf_efficientdet_lite0", (128, 128))
    again = EfficientDet("lite0")
    load_effdet(again, export_effdet(ours, redundant_bias=True), "export")
    for key, value in ours.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


@pytest.mark.by_default("soft-tf_efficientdet_lite0")
@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientdet_d0",
        "tf_efficientdet_d1",
        pytest.param("tf_efficientdet_d7x", marks=pytest.mark.slow),
        "tf_efficientdet_lite0",
        pytest.param("efficientdetv2_dt", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_final_boxes(name: str, nms: str) -> None:
    size = (256, 256)
    # The last digits decide about a box at the threshold, and float32 has too few digits for a D7x.
    dtype = torch.float64 if name == "tf_efficientdet_d7x" else torch.float32
    ours, theirs = pair(name, size, dtype, soft_nms=nms == "soft", max_detection_points=1000)
    assert_final_boxes(ours, theirs, size, nms)


class Answered(torch.nn.Module):
    """A network that gave its answer already: another pass of a deep one takes minutes."""

    def __init__(self, network: torch.nn.Module, maps: Maps) -> None:
        super().__init__()
        self.config = network.config
        self.maps = maps

    def forward(self, images: torch.Tensor) -> Maps:
        return self.maps


@torch.no_grad()
def assert_final_boxes(
    ours: EfficientDet, theirs: torch.nn.Module, size: tuple[int, int], nms: str, maps: tuple[Maps, Maps] | None = None
) -> None:
    """The boxes of two images after suppression, in pixels of the originals, are effdet's.

    Args:
        ours: our network.
        theirs: effdet's.
        size: height and width of the canvas.
        nms: hard or soft.
        maps: what both answer to `images(2, size)`, if that is known.
    """
    pixels = images(2, size)
    own, others = maps or (ours(pixels), theirs(ours.normalise(pixels)))
    height, width = size
    # Of the originals: one half as large as the canvas, one as large; effdet's sizes are (width, height).
    sizes = torch.tensor([[0.4 * width, 0.5 * height], [1.0 * width, 0.8 * height]]).round()
    info = {"img_scale": torch.tensor([0.5, 1.0]), "img_size": sizes}
    expected = DetBenchPredict(Answered(theirs, others))(pixels, info)

    scales = 1 / info["img_scale"]
    sizes_hw = info["img_size"].flip(-1)
    empty = torch.zeros(2, 0)
    batch = DetectionBatch(pixels, empty[..., None].expand(2, 0, 4), empty.long(), torch.arange(2), scales, sizes_hw)
    # effdet has no threshold before hard suppression, and 0.001 in the soft one.
    config = Postprocess(nms=nms, score_threshold=0.0 if nms == "hard" else 0.001, max_candidates=1000)  # type: ignore[arg-type]
    flat = ours.class_head.flatten(own[0]), ours.box_head.flatten(own[1]), ours.anchors(size, pixels.device)
    found = ours.detections(flat, batch, config)
    for image in range(2):
        real = (expected[image, :, 2:4] > expected[image, :, :2]).all(-1)
        rows = torch.cat([found.boxes_xyxy[image], found.scores[image, :, None]], 1)[found.class_ids[image] >= 0]
        assert real.sum() > 30
        same_detections(rows, found.class_ids[image, : len(rows)] + 1, expected[image][real])


def same_detections(rows: torch.Tensor, class_ids: torch.Tensor, expected: torch.Tensor) -> None:
    """Every detection has its equal on the other side; scores that are equal to 1e-4 may come in either order."""
    apart = (rows[:, None] - expected[None, :, :5]).abs()
    equal = (apart[..., :4].amax(-1) < 1e-2) & (apart[..., 4] < 1e-4) & (class_ids[:, None] == expected[None, :, 5])
    # The lists end at different scores: effdet's hundred include boxes that clipping left without area.
    last = max(float(rows[-1, 4]), float(expected[-1, 4])) + 1e-4
    inside = rows[:, 4] > last, expected[:, 4] > last
    assert equal.any(1)[inside[0]].all()
    assert equal.any(0)[inside[1]].all()
    assert inside[0].sum() > 25
    torch.testing.assert_close(rows[: len(expected), 4], expected[: len(rows), 4], atol=1e-4, rtol=0)


def targets(size: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(3, 12, 2, generator=generator) * torch.tensor([size[1], size[0]]) * 0.8
    extent = 2 + torch.rand(3, 12, 2, generator=generator) ** 2 * 100
    boxes = torch.cat([low, low + extent], -1)
    class_ids = torch.randint(0, 90, (3, 12), generator=generator)
    class_ids[0, 5:] = -1
    class_ids[2] = -1  # an image without boxes
    return boxes, class_ids


@pytest.mark.by_default("0.1")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_their_gradients(smoothing: float) -> None:
    size = (128, 256)
    ours, theirs = pair("tf_efficientdet_d0", size, label_smoothing=smoothing)
    boxes, class_ids = targets(size, seed=3)
    pixels = images(3, size)
    bench = DetBenchTrain(theirs).train()
    theirs.eval()  # its D0 drops paths at random in training, ours as the official code does not
    # effdet: boxes as yxyx, classes from 1, padding below 0.
    labels = torch.where(class_ids < 0, -1, class_ids + 1).float()
    expected = bench(ours.normalise(pixels), {"bbox": boxes[..., [1, 0, 3, 2]], "cls": labels})

    batch = DetectionBatch(pixels, boxes, class_ids, torch.arange(3), torch.ones(3), torch.tensor([list(size)] * 3))
    config = DetectionLoss(label_smoothing=smoothing)
    losses = ours.losses(batch, config)
    normaliser = losses.positives + 1
    torch.testing.assert_close(losses.classes / normaliser, expected["class_loss"], rtol=1e-4, atol=0)
    torch.testing.assert_close(losses.boxes / normaliser, expected["box_loss"], rtol=1e-4, atol=0)

    total = losses.total(normaliser, config.of_boxes)
    torch.testing.assert_close(total, expected["loss"], rtol=1e-4, atol=0)
    total.backward()
    expected["loss"].backward()
    mine, other = ours.backbone.conv_stem.weight.grad, theirs.backbone.conv_stem.weight.grad
    assert mine is not None
    torch.testing.assert_close(mine, other, rtol=2e-3, atol=2e-3 * float(other.abs().max()))


@pytest.mark.parametrize(
    "name", ["tf_efficientdet_d0", "tf_efficientdet_d7", "tf_efficientdet_d7x", "efficientdetv2_ds", "efficientdet_q0"]
)
def test_anchors(name: str) -> None:
    config = effdet.get_efficientdet_config(name)
    config.image_size = (256, 768)
    expected = effdet.anchors.Anchors.from_config(config).boxes[:, [1, 0, 3, 2]]
    assert torch.equal(make_anchors((256, 768), PUBLISHED[name].architecture()), expected)


def test_number_of_anchors_is_the_tables() -> None:
    counts = {"d0": 49104, "d3": 150381, "d6": 306900, "d7x": 442260, "lite0": 19206, "lite3x": 76725}
    for name, count in counts.items():
        assert len(make_anchors(FAMILY[name].image_size, FAMILY[name])) == count


@torch.no_grad()
def test_candidates_are_one_plain_selection() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 300, 7, generator=generator)
    deltas = torch.randn(2, 300, 4, generator=generator) * 0.1
    anchors = make_anchors((256, 256), FAMILY["d0"])[:300]
    found = postprocess(logits, deltas, anchors, Postprocess(max_candidates=50, iou_threshold=1.0, score_threshold=0.0))
    expected = logits.reshape(2, -1).topk(50).values.sigmoid()
    torch.testing.assert_close(found.scores[:, :50], expected)
