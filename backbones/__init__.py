"""The multi-scale EfficientNet feature extractor. It knows no task."""
