"""Where boxes are cut out of the maps does not depend on the pictures that a head has seen before."""

from __future__ import annotations

import pytest
import torch

from detection.network.build import build_detector
from detection.network.heads.contract import Placed
from detection.network.postprocess import Postprocess


@pytest.mark.parametrize("head", ["faster_rcnn", "mask_rcnn"])
def test_a_wide_picture_on_a_square_canvas_is_cut_as_any_other(head):
    torch.manual_seed(0)
    network = build_detector("lite0", head=head, num_classes=2, image_size=256).eval()
    own = network.head
    with torch.no_grad():
        # Steady anchors, and classes that differ from place to place.
        own.rpn.head.bbox_pred.weight.zero_()
        own.roi_heads.box_predictor.cls_score.weight.normal_(0, 0.3)
        maps = [torch.randn(1, 64, 256 // 2**level, 256 // 2**level) for level in range(3, 8)]
        wide = Placed((256, 256), [(128.0, 256.0)], maps[0].device)
        whole = Placed((256, 256), [(256.0, 256.0)], maps[0].device)
        config = Postprocess(score_threshold=0.01)
        first = own.detections(maps, (), wide, config)[0]
        own.detections(maps, (), whole, config)
        again = own.detections(maps, (), wide, config)[0]
        assert len(first.scores) > 10
        torch.testing.assert_close(first.scores, again.scores)
        # As torchvision cuts it once the canvas has shown it the strides of the maps.
        named = {str(level): one for level, one in enumerate(maps, 3)}
        pool = type(own.roi_heads.box_roi_pool)(["3", "4", "5"], 7, 2)
        boxes = [torch.tensor([[10.0, 20.0, 90.0, 70.0], [0.0, 0.0, 250.0, 120.0]])]
        expected = pool(named, boxes, [(256, 256)])
        torch.testing.assert_close(own.roi_heads.box_roi_pool(named, boxes, [(128, 256)]), expected)
