"""Networks that have an EfficientNet inside: how its keys begin, and which other parts they have.

Sources: effdet 0.4.1 `efficientdet.py` and `config/model_config.py`; segmentation-models-pytorch 0.6.0 `encoders/`;
zylo117/Yet-Another-EfficientDet-Pytorch `backbone.py`, by its key scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from backbones.layouts.from_efficientnet_pytorch import EFFICIENTNET_PYTORCH, ZYLO
from backbones.layouts.from_timm import TIMM
from backbones.layouts.layout import Layout
from backbones.scaling import Padding


@dataclass(frozen=True)
class Carrier:
    """A kind of network with a backbone.

    Attributes:
        name: name of the library.
        prefix: prefix of the backbone's keys.
        parts: beginnings of the keys of its other parts, at least one of which is there.
        layout: layout of the backbone.
        padding: returns the padding of the backbone by the keys of the other parts; None if they do not tell it.
    """

    name: str
    prefix: str
    parts: tuple[str, ...]
    layout: Layout
    padding: Callable[[Collection[str]], Padding | None]


def _untold(_: Collection[str]) -> Padding | None:
    return None


def _same(_: Collection[str]) -> Padding | None:
    return "same"


def _symmetric(_: Collection[str]) -> Padding | None:
    return "symmetric"


def _effdet_padding(keys: Collection[str]) -> Padding | None:
    # Only the `tf_` networks of effdet have a bias in front of each batch norm (`redundant_bias`).
    node = "fpn.cell.0.fnode.0.after_combine.conv."
    if f"{node}conv_pw.bias" in keys:
        return "same"
    return "symmetric" if any(key.startswith(node) for key in keys) else None


_SMP_PARTS = ("decoder.", "segmentation_head.", "classification_head.")

CARRIERS = (
    Carrier("effdet", "backbone.", ("fpn.", "class_net.", "box_net.", "anchors."), TIMM, _effdet_padding),
    Carrier("EffDense", "backbone.", ("fpn.", "class_head.", "box_head.", "head.", "aux_head."), TIMM, _untold),
    Carrier(
        "zylo117's Yet-Another-EfficientDet",
        "backbone_net.model.",
        ("bifpn.", "regressor.", "classifier.", "anchors."),
        ZYLO,
        _same,
    ),
    Carrier("smp's tu- encoders", "encoder.model.", _SMP_PARTS, TIMM, _untold),
    # Its class has no padding argument, so even weights trained with TensorFlow's padding run with the symmetric one.
    Carrier("smp's timm-efficientnet encoders", "encoder.", _SMP_PARTS, TIMM, _symmetric),
    Carrier("smp's efficientnet encoders", "encoder.", _SMP_PARTS, EFFICIENTNET_PYTORCH, _same),
)
