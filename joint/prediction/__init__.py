"""What prediction finds and what it leaves in a folder; Ray Data."""
