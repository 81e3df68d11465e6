"""What may be added to the training of any task by one option."""
