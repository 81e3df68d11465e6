"""What a training does with a loss that is no number."""
