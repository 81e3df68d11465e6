"""From a network to results in a folder, for every task."""
