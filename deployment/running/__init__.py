"""The runtimes that compute exported files."""
