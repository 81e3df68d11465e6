"""Which channels belong together, and which of them are removed.

Layers whose channels are added, joined or scaled by each other can only lose the same channels; torch-pruning finds
these groups (Fang et al., "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900). So all of the pyramid is one
decision, with the laterals, the first layers of both heads and the batch norms of all levels; an expansion and the
squeeze-and-excitation behind it are another.

A channel counts as much as its weights are large: the squares of all weights of the group that make it or read it,
each layer divided by its mean (torch-pruning's `GroupMagnitudeImportance`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch_pruning
from torch import Tensor, nn

from backbones.gates import CoarseSqueezeExcite
from backbones.networks import SqueezeExcite
from backbones.scaling import round_channels
from classification.network.model import Classifier
from deployment.networks import AnyNetwork
from detection.network.heads.detector import HeadedDetector
from detection.network.heads.kinds.dense import DenseHead
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead
from detection.network.heads.kinds.ssd import SsdHead
from detection.network.model import EfficientDet
from joint.network.model import JointNetwork
from segmentation.network.deeplab import DeepLabHead
from segmentation.network.model import Segmenter

DIVISOR = 8  # channels are kept in multiples of it, as EfficientNets of all widths have them


def remove_channels(network: AnyNetwork, share: float) -> None:
    """Remove the least important channels of every group, in place.

    What is kept of a group is rounded as the channels of an EfficientNet of another width are: to the nearest multiple
    of eight that loses at most a tenth more. The outputs of last layers, the inner channels of squeeze-and-excitation,
    and what a group norm reads stay, and of R-CNN all but the backbone's inner channels: where boxes are cut out of
    maps, the groups of torch-pruning end.

    Args:
        network: in evaluation mode, not folded; a segmenter has the DeepLabv3+ decoder.
        share: the share of each group's channels to remove, above 0 and below 1.
    """
    learning = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    network.requires_grad_(True)  # groups are found along the graph of gradients
    side = 2 * network.stride
    images = torch.zeros((1, 3, side, side), device=next(network.parameters()).device)
    # The weights of the pyramid's fusions belong to edges and not to channels.
    edges = [parameter for name, parameter in network.named_parameters() if name.endswith("edge_weights")]
    graph = torch_pruning.DependencyGraph().build_dependency(
        network, images, forward_fn=_everything, ignored_params=edges, verbose=False
    )
    importance = torch_pruning.importance.GroupMagnitudeImportance()
    remove = torch_pruning.prune_conv_out_channels
    done = set(_kept_whole(network))
    for layer in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
        if layer in done or layer.groups > 1:  # a depthwise convolution has the channels of what is before it
            continue
        count = layer.out_channels
        group = graph.get_pruning_group(layer, remove, list(range(count)))
        members = {dep.target.module for dep, _ in group if dep.handler == remove and dep.target.module.groups == 1}
        normed = any(isinstance(dep.target.module, nn.GroupNorm) for dep, _ in group)  # whose groups would be uneven
        if normed or members & set(_kept_whole(network)):
            continue
        done |= members
        fewest = torch.argsort(importance(group), stable=True)[: count - round_channels(count, 1 - share, DIVISOR)]
        if len(fewest):
            graph.get_pruning_group(layer, remove, sorted(fewest.tolist())).prune()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(learning[name])


def _everything(network: AnyNetwork, images: Tensor) -> list[Tensor]:
    """All that the layers of a network compute, the auxiliary head's as well, which prediction leaves out."""
    if isinstance(network, JointNetwork):
        return [*_everything(network.detector, images), *_everything(network.segmenter, images)]
    if isinstance(network, Classifier):
        return [network(images)]
    if isinstance(network, HeadedDetector):
        return [*network.predictions(images)]
    if isinstance(network, EfficientDet):
        class_maps, box_maps = network(images)
        return [*class_maps, *box_maps]
    image_hw = (images.shape[-2], images.shape[-1])
    maps, grids = network.backbone(network.normalise(images)), network.backbone.grids(image_hw)
    assert isinstance(network.head, DeepLabHead)
    found = [network.head(maps, grids, image_hw)]
    if network.aux_head is not None:
        found.append(network.aux_head(maps[1], grids[1], image_hw))
    return found


def _kept_whole(network: AnyNetwork) -> Iterator[nn.Module]:
    """The convolutions whose outputs stay: last layers, and what the gates squeeze to."""
    for module in network.modules():
        if isinstance(module, EfficientDet):
            yield from (module.class_head.predict.pointwise, module.box_head.predict.pointwise)
        elif isinstance(module, Segmenter):
            yield module.head.classifier
            # Its width follows from the map that it reads, when other classes are given.
            yield from () if module.aux_head is None else module.aux_head.modules()
        elif isinstance(module, HeadedDetector):
            if isinstance(module.head, FasterRcnnHead):
                yield from (*module.pyramid.modules(), *module.head.modules())
            else:
                yield from _last_of(module.head)
        elif isinstance(module, SqueezeExcite | CoarseSqueezeExcite):
            yield module.conv_reduce


def _last_of(head: object) -> Iterator[nn.Module]:
    """The last layers of RetinaNet, FCOS or SSD: those whose results are rearranged into rows of anchors."""
    assert isinstance(head, DenseHead)
    branches = head.model.head.classification_head, head.model.head.regression_head
    for branch in branches:
        if isinstance(head, SsdHead):
            yield from branch.module_list  # one of each level
        else:
            names = ("cls_logits", "bbox_reg", "bbox_ctrness")
            yield from (layer for name, layer in branch.named_children() if name in names)
