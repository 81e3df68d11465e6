"""Random changes of images by the published policies, right for boxes and masks."""
