"""Files of LiteRT (.tflite): for MediaPipe, Coral's Edge TPU, Frigate and phones."""
