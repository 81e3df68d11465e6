"""Checkpoint layouts: how each library names the tensors of an EfficientNet, and its files read safely."""
