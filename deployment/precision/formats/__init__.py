"""Int8 by the quantiser of each runtime."""
