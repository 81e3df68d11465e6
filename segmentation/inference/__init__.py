"""How a network is applied to an image: whole, in tiles, at several scales."""
