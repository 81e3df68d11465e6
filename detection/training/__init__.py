"""What else a detector learns from: other detectors, and what it found itself in unlabelled images."""
