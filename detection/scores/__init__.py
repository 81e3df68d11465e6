"""COCO's numbers of detections."""
