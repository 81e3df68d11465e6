"""The doctor of sets of boxes: what is wrong with images, boxes and splits, before hours are spent."""
