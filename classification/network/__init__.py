"""The network: an EfficientNet with its classification head, and the losses that train it."""
