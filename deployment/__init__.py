"""Files that run elsewhere: exports, their runtimes, and what they cost."""
