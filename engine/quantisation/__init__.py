"""Int8 while a network is still trained."""
