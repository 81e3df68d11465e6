"""Rasters, slides and videos: read, computed and written in pieces."""
