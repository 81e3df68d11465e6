"""LiteRT files (.tflite): for MediaPipe, for Coral's Edge TPU and for Frigate."""
