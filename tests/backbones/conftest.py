"""Keras is read once, with the backend that its variable names."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
