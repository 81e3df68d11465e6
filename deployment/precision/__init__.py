"""Files in smaller number types, whose loss of accuracy is measured and bounded."""
