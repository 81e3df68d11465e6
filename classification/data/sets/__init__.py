"""The forms that sets of labelled images have on disk."""
