"""What EfficientNets cost, and the search for their scaling: tables, figures and pictures."""
