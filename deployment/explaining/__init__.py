"""Which parts of an image a box, or a class of a segmentation, rests on."""
