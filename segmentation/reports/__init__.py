"""A segmenter's evaluation as a report shows it: key figures, tables, and images under their classes."""
