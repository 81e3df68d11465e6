"""Numbers of single images, collected into one number of a set."""
