"""Recipes: settings of a training that follow from what its data show, each with its reason."""
