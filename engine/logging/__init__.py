"""What a run leaves behind beside its checkpoints: logs and pictures."""
