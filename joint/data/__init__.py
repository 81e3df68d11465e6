"""Data sets with boxes, masks or both, and how they are mixed."""
