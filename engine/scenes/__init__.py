"""Generated street scenes with true COCO and Cityscapes annotations."""
