"""Detection heads: what stands on the pyramid and gives boxes."""
