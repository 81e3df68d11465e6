"""A detector's evaluation as a report shows it: key figures, tables, and images with their boxes."""
