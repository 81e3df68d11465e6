"""What the training of every task shares: the Lightning shell, recipe, averaging and checkpoints."""
