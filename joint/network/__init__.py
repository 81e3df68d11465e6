"""A detector and a segmenter on one backbone."""
