"""Published figures of the EfficientNets: image size, parameters, MACs and top-1 on ImageNet, each with its source.

The sources, by their short names:
  paper      B0-B7: Tan and Le, "EfficientNet" (arXiv:1905.11946v5), table 2; V2: Tan and Le, "EfficientNetV2"
             (arXiv:2104.00298), table 7, for top-1.
  automl     google/automl, efficientnetv2/README.md, "Pretrained EfficientNetV2 Checkpoints".
  tpu        tensorflow/tpu, models/official/efficientnet/lite/README.md ("MAdds", "FP32 accuracy").
  torchvision the `_ops` and `_metrics` of torchvision's IMAGENET1K_V1 weights, `torchvision.models.efficientnet`.
Image sizes: efficientnet_builder.py and lite/efficientnet_lite_builder.py of tensorflow/tpu; V2: effnetv2_configs.py of
google/automl (`eval` sizes). timm's own configuration of Lite3 and Lite4 has 300 and 380 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A published number.

    Attributes:
        value: the number as it stands in the source: top-1 in percent, or multiply-accumulates in billions.
        image_size: side in pixels of the images that it holds for.
        source: short name of the source; the docstring of this file has its address.
    """

    value: float
    image_size: int
    source: str


@dataclass(frozen=True)
class Published:
    """The published figures of one network.

    Attributes:
        name: timm's name of the network that the authors trained.
        image_size: side of its images in pixels.
        parameters_millions: millions of parameters, as the authors rounded them.
        top1: top-1 in percent on ImageNet's validation set after training on ImageNet-1k alone; the authors' figure
            comes first.
        macs_billions: billions of multiply-accumulates; the authors' figures come first.
    """

    name: str
    image_size: int
    parameters_millions: float
    top1: tuple[Figure, ...]
    macs_billions: tuple[Figure, ...]

    @property
    def family(self) -> str:
        """The family of the network: `B`, `Lite` or `V2`."""
        return "Lite" if "lite" in self.name else "V2" if "v2" in self.name else "B"


def _first(
    member: str, size: int, parameters: float, top1: float, macs: float, library: tuple[float, float, int]
) -> Published:
    library_top1, library_macs, library_size = library
    return Published(
        f"tf_efficientnet_{member}",
        size,
        parameters,
        (Figure(top1, size, "paper"), Figure(library_top1, library_size, "torchvision")),
        (Figure(macs, size, "paper"), Figure(library_macs, library_size, "torchvision")),
    )


def _lite(member: str, size: int, parameters: float, top1: float, macs: float) -> Published:
    name = f"tf_efficientnet_{member}"
    return Published(name, size, parameters, (Figure(top1, size, "tpu"),), (Figure(macs, size, "tpu"),))


def _second(
    member: str,
    size: int,
    parameters: float,
    top1: tuple[float, float, float],
    macs: tuple[float, float],
) -> Published:
    sources = ("paper", "automl", "torchvision")
    return Published(
        f"tf_efficientnetv2_{member}",
        size,
        parameters,
        tuple(Figure(value, size, source) for value, source in zip(top1, sources, strict=True)),
        tuple(Figure(value, size, source) for value, source in zip(macs, sources[1:], strict=True)),
    )


# Size, millions of parameters, top-1, MACs in billions; then torchvision's top-1, MACs and image size.
PUBLISHED: dict[str, Published] = {
    "b0": _first("b0", 224, 5.3, 77.1, 0.39, (77.692, 0.386, 224)),
    "b1": _first("b1", 240, 7.8, 79.1, 0.70, (78.642, 0.687, 240)),
    "b2": _first("b2", 260, 9.2, 80.1, 1.0, (80.608, 1.088, 288)),
    "b3": _first("b3", 300, 12, 81.6, 1.8, (82.008, 1.827, 300)),
    "b4": _first("b4", 380, 19, 82.9, 4.2, (83.384, 4.394, 380)),
    "b5": _first("b5", 456, 30, 83.6, 9.9, (83.444, 10.266, 456)),
    "b6": _first("b6", 528, 43, 84.0, 19, (84.008, 19.068, 528)),
    "b7": _first("b7", 600, 66, 84.3, 37, (84.122, 37.746, 600)),
    "lite0": _lite("lite0", 224, 4.7, 75.1, 0.407),
    "lite1": _lite("lite1", 240, 5.4, 76.7, 0.631),
    "lite2": _lite("lite2", 260, 6.1, 77.6, 0.899),
    "lite3": _lite("lite3", 280, 8.2, 79.8, 1.44),
    "lite4": _lite("lite4", 300, 13.0, 81.5, 2.64),
    "v2_s": _second("s", 384, 21.5, (83.9, 83.9, 84.228), (8.4, 8.366)),
    "v2_m": _second("m", 480, 54.1, (85.1, 85.2, 85.112), (24.7, 24.582)),
    "v2_l": _second("l", 480, 119.5, (85.7, 85.7, 85.808), (56.3, 56.08)),
}


def find(name: str) -> Published | None:
    """The published figures of a network, named as `b0` or as by timm without a weight tag; None if there are none."""
    return PUBLISHED.get(name) or next((entry for entry in PUBLISHED.values() if entry.name == name), None)
