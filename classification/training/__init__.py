"""How a training grows: sizes and regularisation by stages, and mixed batches."""
