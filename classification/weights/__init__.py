"""Networks from checkpoints, and the head of ImageNet weights."""
