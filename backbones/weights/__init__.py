"""Weights of a backbone from a file, a package or a hub, and their conversion."""
