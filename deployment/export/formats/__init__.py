"""What becomes of a program in each format."""
