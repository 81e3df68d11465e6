"""Structured pruning: whole channels are removed, and the network stays one of its own kind."""
