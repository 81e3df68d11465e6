"""What every task's training and prediction share: reading, writing, recipes, the command line. Knows no task."""
