"""Both losses, and how they are weighed."""
