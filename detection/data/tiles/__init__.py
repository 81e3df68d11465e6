"""Tiles of large images as samples: at random for training, all of them for validation."""
