"""A joint network from its checkpoint."""
