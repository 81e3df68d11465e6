"""Detectors from files of other libraries, and into files of this project."""
