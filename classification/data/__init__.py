"""Images with their labels: folders, tables, CIFAR and ImageNet, and what happens to them in training."""
