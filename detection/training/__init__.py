"""What else a detector learns from: other detectors."""
