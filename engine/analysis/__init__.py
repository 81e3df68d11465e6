"""What the analyses of all tasks share: calibration, the curves of a run, and drawing."""
