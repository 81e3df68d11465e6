"""Pictures larger than a network takes: opened, cut into overlapping tiles, and read a window at a time."""
