"""Cityscapes as it lies on disk, and its classes."""
