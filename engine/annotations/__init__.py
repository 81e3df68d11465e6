"""Annotations of other tools, which every task can read: the files of a set, and the objects drawn in its images."""
