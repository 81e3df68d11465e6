"""Which images of a training set come more often than others, because of the classes that they show."""
