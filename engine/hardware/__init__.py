"""What the machine has: its processors, their flags, and processes on them."""
