"""What is wrong with a set, whatever its task: findings by name and file, and facts of image files."""
