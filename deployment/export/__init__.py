"""From a checkpoint to the file of a runtime."""
