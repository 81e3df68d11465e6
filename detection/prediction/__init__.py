"""From images to objects: in Python and on the command line."""
