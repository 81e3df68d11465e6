"""A trained network for others: its folder, its model card written from the run, and its place on a model hub."""
