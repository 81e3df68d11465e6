"""Command lines: the tasks' commands, LightningCLI with short errors, and the folders of runs."""
