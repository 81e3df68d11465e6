"""The network as a whole: any image size, gradients everywhere, settings, class lists, precision, export."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.batch import DetectionBatch
from detection.data.classes import COCO_NAMES, BoxClasses
from detection.network.anchors import encode_boxes, make_anchors
from detection.network.bifpn import Downsample
from detection.network.family import FAMILY
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from engine.errors import InputError

TINY: dict[str, Any] = {"image_size": 128, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}


def tiny(member: str = "lite0", num_classes: int | None = 3, **settings_: Any) -> EfficientDet:
    torch.manual_seed(0)
    return EfficientDet(member, num_classes, **TINY | settings_).eval()


def pixels(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def batch_of(images: torch.Tensor, boxes: int = 3) -> DetectionBatch:
    generator = torch.Generator().manual_seed(1)
    count, _, height, width = images.shape
    low = torch.rand(count, boxes, 2, generator=generator) * torch.tensor([width, height]) * 0.6
    size = 10 + 30 * torch.rand(count, boxes, 2, generator=generator)
    class_ids = torch.randint(0, 3, (count, boxes), generator=generator)
    sizes = torch.tensor([[height, width]]).expand(count, 2)
    return DetectionBatch(
        images, torch.cat([low, low + size], -1), class_ids, torch.arange(count), torch.ones(count), sizes
    )


def logits_of(model: EfficientDet, images: torch.Tensor) -> torch.Tensor:
    class_logits, box_deltas, _ = model.predictions(images)
    return torch.cat([class_logits, box_deltas], -1)


@pytest.fixture(scope="module")
def shared() -> EfficientDet:
    """A network that no test changes."""
    return tiny()


@settings(max_examples=12, deadline=None)
@given(height=st.integers(33, 300), width=st.integers(33, 300))
@torch.no_grad()
def test_boxes_of_any_size_lie_in_the_image(shared: EfficientDet, height: int, width: int) -> None:
    batch = batch_of(pixels(1, height, width))
    found = shared.detect(batch, Postprocess(max_candidates=500))
    real = found.class_ids[0] >= 0
    boxes = found.boxes_xyxy[0][real]
    assert len(boxes) > 10
    assert float(boxes.min()) >= 0
    assert bool((boxes[:, 2:] <= torch.tensor([width, height])).all())
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    class_logits, box_deltas, anchors = shared.predictions(batch.images)
    assert class_logits.shape == (1, len(anchors), 3)
    assert box_deltas.shape == (1, len(anchors), 4)
    # 9 anchors in each cell; each level has half the cells of the one before, rounded up.
    assert len(anchors) == 9 * sum(-(-height // s) * -(-width // s) for s in (8, 16, 32, 64, 128))


@pytest.mark.by_default("128-128", "33-255")
@pytest.mark.parametrize(("height", "width"), [(128, 128), (97, 130), (33, 255), (129, 40)])
@torch.no_grad()
def test_a_network_of_before_pads_with_the_mean_colour(shared: EfficientDet, height: int, width: int) -> None:
    """Its checkpoint says nothing of padding, which was the only way then."""
    stored = shared.settings()
    del stored["architecture"]["pads_canvas"]
    former = EfficientDet.from_settings(stored).eval()
    former.load_state_dict(shared.state_dict())
    assert former.config.pads_canvas
    assert not shared.config.pads_canvas
    again = EfficientDet.from_settings(former.settings())
    assert again.config.pads_canvas  # it keeps its answers after further training
    image = pixels(2, height, width).float()
    canvas = shared.mean.expand(2, 3, -(-height // 128) * 128, -(-width // 128) * 128).clone()
    canvas[:, :, :height, :width] = image
    assert torch.equal(logits_of(former, image), logits_of(shared, canvas))
    for found, expected in zip(former.predictions(image), shared.predictions(canvas), strict=True):
        assert torch.equal(found, expected)


@torch.no_grad()
def test_folded_is_unfolded_at_every_size() -> None:
    """Both paddings; the paddings of a folded network are part of its kernels, which depend on the size."""
    for member in ("lite0", "d0"):
        plain = tiny(member).double()
        folded = copy.deepcopy(plain).fold()
        for size in ((129, 40), (97, 130), (160, 95)):
            image = pixels(1, *size).double()
            torch.testing.assert_close(logits_of(folded, image), logits_of(plain, image), atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_bytes_and_floats_are_one_image(shared: EfficientDet) -> None:
    image = pixels(1, 128, 128)
    assert torch.equal(logits_of(shared, image), logits_of(shared, image.float()))


@torch.no_grad()
def test_images_of_a_batch_do_not_mix(shared: EfficientDet) -> None:
    images = pixels(3, 128, 128)
    alone = torch.cat([logits_of(shared, image[None]) for image in images])
    torch.testing.assert_close(logits_of(shared, images), alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_untrained_scores_are_the_prior(shared: EfficientDet) -> None:
    class_logits, _, _ = shared.predictions(pixels(1, 128, 128))
    assert float(class_logits.sigmoid().median()) == pytest.approx(0.01, abs=0.003)


@pytest.mark.by_default("d0", "lite0")
@pytest.mark.parametrize("member", ["d0", "lite0", "d7x"])
def test_every_parameter_gets_a_gradient(member: str) -> None:
    """All parameters get a gradient, as plain DDP waits for all of them; also when no image has a box."""
    overrides = {"backbone": "tf_efficientnet_b0", "drop_path": 0.0} if member == "d7x" else {}
    model = tiny(member, image_size=256, **overrides).train()
    canvas_hw = (2 * model.config.stride, model.config.stride)
    batch = batch_of(pixels(2, *canvas_hw), boxes=len(model.config.levels))
    # A box for the size of every level, as each level has its own batch norms in the box head.
    firsts = [make_anchors(canvas_hw, dataclasses.replace(model.config, max_level=m))[-9] for m in range(5, 9)]
    smaller = make_anchors(canvas_hw, model.config)[[0, 9 * canvas_hw[0] * canvas_hw[1] // 64]]
    boxes = torch.stack([*smaller, *firsts])[: len(model.config.levels)].expand(2, -1, 4)
    batch = batch._replace(boxes_xyxy=boxes)
    for class_ids in (batch.class_ids, torch.full_like(batch.class_ids, -1)):
        model.zero_grad(set_to_none=True)
        losses = model.losses(batch._replace(class_ids=class_ids), DetectionLoss())
        losses.total(losses.positives + 1, 50.0).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
        if losses.positives:
            dead = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
            assert dead == []


@pytest.mark.parametrize("fusion", ["fast_attention", "attention", "sum"])
def test_fusions(fusion: Any) -> None:
    model = tiny(fusion=fusion)
    node = model.fpn.cells[0].bottom_up[0]
    maps = [torch.randn(1, 16, 4, 4) for _ in range(3)]
    if fusion == "sum":
        assert not [name for name, _ in model.named_parameters() if "edge_weights" in name]
        weights = torch.ones(3)
    else:
        raw = torch.tensor([0.5, 2.0, -1.0])
        node.edge_weights.data.copy_(raw)
        weights = raw.clamp(min=0) / (2.5 + 1e-4) if fusion == "fast_attention" else raw.exp() / raw.exp().sum()
    expected = sum(weight * one for weight, one in zip(weights, maps, strict=True))
    torch.testing.assert_close(node.fuse(maps), expected)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 8), (8, 5), (7, 5), (2, 1), (1, 1)])
def test_pooling_pads_as_tensorflow(height: int, width: int) -> None:
    x = torch.randn(1, 2, height, width)
    out = [-(-side // 2) for side in (height, width)]
    # SAME: as much padding as the windows need, the odd pixel right and below.
    total = [max(0, (o - 1) * 2 + 3 - side) for o, side in zip(out, (height, width), strict=True)]
    padding = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    expected = F.max_pool2d(F.pad(x, padding, value=-torch.inf), 3, stride=2)
    assert torch.equal(Downsample("same")(x), expected)


def test_shortest_pyramid_and_equal_channels() -> None:
    """Three levels need no coarser maps; a lateral between equal channels is left out."""
    model = tiny(max_level=5, fpn_channels=40)
    assert logits_of(model, pixels(1, 40, 70)).shape[1] == 9 * (5 * 9 + 3 * 5 + 2 * 3)
    assert not [key for key in model.state_dict() if key.startswith(("fpn.coarser", "fpn.cells.0.laterals_down.0"))]


@torch.no_grad()
def test_settings_round_trip() -> None:
    classes = BoxClasses(("car", "pole"), (7, 3))
    ratios = [[1.0, 1.0], [2.0, 0.5]]
    model = tiny("d0", None, classes=classes, fusion="attention", anchor_ratios=ratios, mean=[0.5] * 3)
    again = EfficientDet.from_settings(model.settings()).eval()
    assert again.config == model.config
    assert again.classes == classes
    again.load_state_dict(model.state_dict())
    image = pixels(1, 100, 60)
    assert torch.equal(logits_of(again, image), logits_of(model, image))


def test_settings_of_another_version_name_the_unknown_key() -> None:
    stored = tiny().settings()
    stored["architecture"] = stored["architecture"] | {"fpn_chanels": 3}
    with pytest.raises(InputError, match=r"'fpn_chanels' is unknown; .*Did you mean 'fpn_channels'\?"):
        EfficientDet.from_settings(stored)


def test_set_classes_keeps_all_but_the_last_layer(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        model.set_classes(BoxClasses.numbered(3))
    assert not caplog.records
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())

    classes = BoxClasses(("a", "b", "c", "d", "e"), (1, 2, 3, 5, 8))
    with caplog.at_level(logging.INFO):
        model.set_classes(classes)
    assert "3 to 5" in caplog.text
    after = model.state_dict()
    changed = [
        key for key in after if before[key].shape != after[key].shape or not torch.equal(before[key], after[key])
    ]
    assert {key.rsplit(".", 2)[0] for key in changed} == {"class_head.predict"}
    assert model.classes == classes
    class_logits, _, anchors = model.predictions(pixels(1, 128, 128))
    assert class_logits.shape == (1, len(anchors), 5)
    assert float(class_logits.detach().sigmoid().median()) == pytest.approx(0.01, abs=0.003)


def test_renamed_classes_start_anew_too() -> None:
    model = tiny()
    before = model.class_head.predict.pointwise.weight.detach().clone()
    model.double().set_classes(BoxClasses(("x", "y", "z"), (1, 2, 3)))
    after = model.class_head.predict.pointwise.weight
    assert after.shape == before.shape
    assert not torch.equal(after.float(), before)
    assert after.dtype == torch.float64


def test_class_lists_of_the_constructor() -> None:
    assert EfficientDet("lite0", **TINY).classes.names[0] == COCO_NAMES[1]
    assert tiny(num_classes=2).classes.names == ("class_1", "class_2")
    with pytest.raises(InputError, match="num_classes is 0; give at least 1"):
        tiny(num_classes=0)
    with pytest.raises(InputError, match="num_classes is 4, but the class list has 3 rows"):
        tiny(num_classes=4, classes=BoxClasses.numbered(3))


def test_constructor_errors() -> None:
    with pytest.raises(InputError, match=r"member 'd8' is unknown; allowed: d0, .*"):
        EfficientDet("d8", 3)
    with pytest.raises(InputError, match=r"Did you mean 'fpn_cells'\?"):
        tiny(fpn_cell=2)
    with pytest.raises(InputError, match="not both"):
        EfficientDet(FAMILY["lite0"], 3, fpn_cells=2)
    with pytest.raises(InputError, match="tf_efficientnet_b0"):
        tiny(backbone="tf_eficientnet_b0")


@pytest.mark.parametrize(
    ("member", "overrides", "expected"),
    [
        ("d0", {}, (124, 116, 104)),  # 255 x the ImageNet mean
        ("lite0", {}, (128, 128, 128)),
        ("d0", {"mean": (0.0, 0.5, 1.0)}, (0, 128, 255)),
    ],
)
def test_fill_color(member: str, overrides: dict[str, Any], expected: tuple[int, int, int]) -> None:
    model = tiny(member, **overrides)
    assert model.fill_color == expected
    plain = torch.tensor(expected).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert float(model.normalise(plain).abs().max()) < 0.01


def test_backbone_in_place_of_the_members_brings_its_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    info = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert info is not None
    swapped = tiny("d0", backbone="tf_efficientnet_lite0")
    assert (swapped.config.mean, swapped.config.std) == (info.mean, info.std) == ((0.5,) * 3, (0.5,) * 3)
    assert torch.equal(swapped.mean.flatten(), torch.full((3,), 127.5))
    assert EfficientDet.from_settings(swapped.settings()).config == swapped.config
    assert tiny("d0", backbone="tf_efficientnet_lite0", mean=(0.1, 0.2, 0.3)).config.mean == (0.1, 0.2, 0.3)
    monkeypatch.setitem(FAMILY, "d0", dataclasses.replace(FAMILY["d0"], mean=(0.1, 0.2, 0.3)))
    assert tiny("d0", backbone=None).config.mean == (0.1, 0.2, 0.3)  # none given


def test_gradient_checkpointing_changes_no_gradient() -> None:
    batch = batch_of(pixels(2, 128, 256))
    gradients = []
    for grad_checkpointing in (False, True):
        model = tiny(grad_checkpointing=grad_checkpointing).train()
        losses = model.losses(batch, DetectionLoss())
        losses.total(losses.positives + 1, 50.0).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6)


def test_frozen_backbone_stays_as_it_is() -> None:
    model = tiny(frozen_stages=-1).train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    losses = model.losses(batch_of(pixels(2, 128, 256)), DetectionLoss())
    losses.total(losses.positives + 1, 50.0).backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith("backbone."))
    assert all(torch.equal(before[key], value) for key, value in model.backbone.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("member", ["d0", "lite0"])
def test_bfloat16_autocast_trains_and_detects(member: str) -> None:
    model = tiny(member).train()
    batch = batch_of(pixels(2, 128, 256))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(batch, DetectionLoss())
        total = losses.total(losses.positives + 1, 50.0)
    assert total.dtype == torch.float32
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    exact = logits_of(model, batch.images).detach()
    with torch.autocast("cpu", torch.bfloat16):
        short = logits_of(model, batch.images)
        found = model.detect(batch, Postprocess())
    assert short.dtype == torch.bfloat16
    assert float((short.detach().float() - exact).abs().mean()) < 0.05
    assert found.boxes_xyxy.dtype == torch.float32
    assert bool((found.class_ids >= 0).any())


def test_validation_in_inference_mode_before_training() -> None:
    """Lightning's sanity check validates in inference mode first; what it caches must serve the training."""
    model = tiny()
    batch = batch_of(pixels(2, 128, 256))
    with torch.inference_mode():
        model.detect(batch, Postprocess())
    losses = model.train().losses(batch, DetectionLoss())
    losses.total(losses.positives + 1, 50.0).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.slow  # tests/joint/network/test_export.py has it of a network with a detector
def test_export_gives_equal_maps(shared: EfficientDet) -> None:
    image = pixels(1, 128, 256).float()
    exported = torch.export.export(shared, (image,), strict=False).module()
    with torch.no_grad():
        maps = zip(itertools.chain(*exported(image)), itertools.chain(*shared(image)), strict=True)
        for found, expected in maps:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_detect_scales_back_to_each_original(monkeypatch: pytest.MonkeyPatch, shared: EfficientDet) -> None:
    """One planted box on the canvas comes back in the pixels of each image, clipped to it."""

    def planted(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        anchors = shared.anchors((128, 128), images.device)
        logits = torch.full((len(images), len(anchors), 3), -20.0)
        logits[:, 900, 1] = 3.0
        deltas = torch.zeros(len(images), len(anchors), 4)
        deltas[:, 900] = encode_boxes(torch.tensor([20.0, 30.0, 60.0, 100.0]), anchors[900])
        return logits, deltas, anchors

    monkeypatch.setattr(shared, "predictions", planted)
    batch = DetectionBatch(
        pixels(2, 128, 128),
        torch.zeros(2, 0, 4),
        torch.zeros(2, 0, dtype=torch.int64),
        torch.arange(2),
        torch.tensor([0.5, 2.0]),
        torch.tensor([[256, 100], [40, 64]]),  # 128 x 50 and 80 x 128 on the canvas
    )
    found = shared.detect(batch, Postprocess())
    assert found.class_ids[:, :2].tolist() == [[1, -1], [1, -1]]
    torch.testing.assert_close(found.boxes_xyxy[0, 0], torch.tensor([40.0, 60.0, 100.0, 200.0]))
    torch.testing.assert_close(found.boxes_xyxy[1, 0], torch.tensor([10.0, 15.0, 30.0, 40.0]))


@pytest.mark.parametrize(("fill", "color"), [("mean", (128, 128, 128)), ("black", (0, 0, 0))])
def test_what_a_network_of_before_adds_has_the_fill_colour(fill, color):
    detector = EfficientDet("lite0", 3, fill=fill, pads_canvas=True).eval()
    assert detector.fill_color == color
    images = torch.randint(0, 256, (1, 3, 100, 128), dtype=torch.float32)
    canvas = torch.cat((images, torch.zeros(1, 3, 28, 128) + (0 if fill == "black" else 127.5)), dim=2)
    assert torch.equal(detector.normalise(images), detector.normalise(canvas))
