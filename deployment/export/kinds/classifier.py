"""A classifier as a graph for export: images in, the probabilities of their classes and their vectors out."""

from __future__ import annotations

from torch import Tensor

from classification.network.model import Classifier
from deployment.export.kinds.contract import Graph, normalised, prepared


class ClassifierGraph(Graph):
    """`probabilities` (B, K), over the classes 1 in sum where an image has one label, and `embeddings` (B, F).

    Args:
        network: the classifier; it is copied and folded.
    """

    network: Classifier
    outputs = ("probabilities", "embeddings")

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = prepared(network)
        self.several = network.classes.several

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB images."""
        network = self.network
        vectors = network.head.features(network.backbone(normalised(network.mean, network.std, images))[-1])
        logits = network.head.classifier(vectors)
        return logits.sigmoid() if self.several else logits.softmax(1), vectors
