"""What a command line gives: the data of a training, and a recipe for them."""
