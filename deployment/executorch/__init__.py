"""ExecuTorch's side: what the Python of its own environment runs, and what that environment holds."""
