"""The command lines: the commands of the tasks, LightningCLI with short errors, and the folders of runs."""
