"""Both losses, and their weighting."""
