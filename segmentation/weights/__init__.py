"""Segmenters from files of other libraries."""
