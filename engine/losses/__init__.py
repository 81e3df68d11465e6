"""What the losses of all tasks share."""
