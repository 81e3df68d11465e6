"""EfficientDet itself: family, pyramid, heads, anchors, losses and suppression."""
