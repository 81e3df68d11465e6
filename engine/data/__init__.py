"""Images from files to arrays on a canvas, and what may happen to them on the way."""
