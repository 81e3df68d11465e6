"""The heads that torchvision brings, each with its own losses and suppression."""
