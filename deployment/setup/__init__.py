"""Environments of converters that cannot share the project's own."""
