"""The commands about whole runs: `report` and `compare`."""
