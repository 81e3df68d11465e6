"""Images from files to arrays on a canvas, and their augmentation on the way."""
