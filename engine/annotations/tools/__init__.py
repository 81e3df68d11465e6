"""One file for each annotation tool: which label files it claims, and the objects that they hold."""
