"""What the training and prediction of every task share: files, recipes and the command line. It knows no task."""
