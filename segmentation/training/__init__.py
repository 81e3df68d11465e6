"""What else a segmenter learns from: other segmenters."""
