"""The cost of EfficientNets, and the search for their scaling: tables, figures and pictures."""
