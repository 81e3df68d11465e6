"""What a segmenter does well and what not: pairs of classes, boundaries, images."""
