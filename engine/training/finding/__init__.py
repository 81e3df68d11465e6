"""Numbers of a training that are found by trying: its learning rate and its batch."""
