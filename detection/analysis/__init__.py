"""What a detector does well and what not, from its detections and the annotations: curves, mistakes, images."""
