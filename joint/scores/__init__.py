"""The scores of both tasks."""
