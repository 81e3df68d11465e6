"""What annotations say of boxes beside their place and class."""
