"""Masks that are not files: objects drawn by annotation tools, which become label maps as they are read."""
