"""What networks cost on this machine: runtimes, number types and sizes, measured in turns."""
