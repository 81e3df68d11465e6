"""Sets with boxes, masks or both, mixed."""
