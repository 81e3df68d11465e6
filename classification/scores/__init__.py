"""Accuracy, calibration and the scores of each class."""
