"""The scores of masks: IoU, and those of the Cityscapes benchmark."""
