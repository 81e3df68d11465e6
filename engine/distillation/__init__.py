"""A trained network teaches another: losses between their maps and answers, and what a checkpoint keeps of it."""
