"""Checkpoint layouts: how each library names the tensors of an EfficientNet, and how its files are read safely."""
