"""Keras is imported only once, with the backend that its environment variable names."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
