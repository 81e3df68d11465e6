"""Ids for objects that are seen in frame after frame."""
