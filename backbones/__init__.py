"""The multi-scale EfficientNet feature extractor. Knows no task."""
