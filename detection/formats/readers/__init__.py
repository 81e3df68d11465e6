"""One file for each format: which label files it claims, and how they become images with boxes."""
