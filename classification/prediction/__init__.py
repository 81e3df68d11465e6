"""From images to classes with probabilities, in Python, as tables and as pictures."""
