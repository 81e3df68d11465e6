"""Both tables of scores."""
