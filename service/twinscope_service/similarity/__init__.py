"""What is measured on a pair of images."""
