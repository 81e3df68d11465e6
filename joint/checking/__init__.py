"""The doctor of sets with boxes and masks."""
