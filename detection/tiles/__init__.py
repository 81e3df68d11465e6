"""Boxes of pictures larger than the canvas: cut into tiles, merged over the seams, fused over several passes."""
