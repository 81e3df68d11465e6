"""The doctor of sets of masks: what is wrong with images, masks and splits, before hours are spent."""
