"""A network behind HTTP: one image in, an answer as JSON or as a picture out."""
