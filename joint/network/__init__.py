"""Detector and segmenter on one backbone."""
