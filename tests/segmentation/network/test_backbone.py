"""A backbone that is not an EfficientNet, given as an object to the segmenter, with its own decoder and smp's."""

import pytest
import torch

from engine.errors import InputError
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from segmentation.network.model import Segmenter
from tests.toy_backbone import ToyFeatures

DEEPLAB = {"decoder_channels": 16, "skip_channels": 8}


@pytest.mark.parametrize(
    ("levels", "coarsest", "settings"),
    [
        ((2, 5), 16, DEEPLAB),
        ((2, 5), 32, {**DEEPLAB, "output_stride": 32}),
        ((2, 4, 5), 16, {**DEEPLAB, "aux_head": True}),
        ((1, 2, 3, 4, 5), 32, {"decoder": "unet"}),
    ],
)
def test_one_step_changes_every_part(levels, coarsest, settings):
    torch.manual_seed(0)
    segmenter = Segmenter("b0", 3, backbone=ToyFeatures(levels, coarsest), **settings).train()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    class_ids = torch.randint(0, 3, (2, 64, 96))
    before = {name: p.detach().clone() for name, p in segmenter.named_parameters()}
    optimizer = torch.optim.SGD(segmenter.parameters(), lr=0.1)
    logits, aux_logits = segmenter.outputs(images)
    assert logits.shape == (2, 3, 64, 96)
    losses = segmentation_losses(logits, class_ids, SegmentationLoss(), aux_logits)
    total = torch.stack(list(losses.terms(SegmentationLoss(), losses.shared, 1).values())).sum()
    assert total.isfinite()
    total.backward()
    optimizer.step()
    moved = {name.split(".")[0] for name, p in segmenter.named_parameters() if not p.equal(before[name])}
    assert moved == {name.split(".")[0] for name in before}
    assert segmenter.mean.flatten().tolist() == pytest.approx([255 * value for value in ToyFeatures.image_norm.mean])


def test_settings_ask_for_the_object():
    segmenter = Segmenter("b0", 3, backbone=ToyFeatures((2, 5), 16), **DEEPLAB).eval()
    with pytest.raises(InputError, match="ToyFeatures, was given as an object"):
        Segmenter.from_settings(segmenter.settings())
    with pytest.raises(InputError, match="ToyFeatures, was given as an object"):
        segmenter.at_stride(8)
    again = Segmenter.from_settings(segmenter.settings(), backbone=ToyFeatures((2, 5), 16)).eval()
    again.load_state_dict(segmenter.state_dict())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again(images), segmenter(images))


def test_the_levels_are_those_of_the_decoder():
    with pytest.raises(InputError, match=r"reads \(2, 5\) with strides \(4, 16\)"):
        Segmenter("b0", 3, backbone=ToyFeatures((3, 4, 5)))
