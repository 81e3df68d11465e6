"""Prediction with a joint network: its answers, the results in a folder, and Ray Data."""
