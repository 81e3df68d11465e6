"""Networks in the files of other runtimes, as the tasks know them."""
