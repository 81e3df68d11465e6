"""What a report shows of a classifier."""
