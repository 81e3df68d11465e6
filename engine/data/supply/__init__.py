"""What training steps are supplied with: the size of their batches and canvases, and pixels that are kept."""
