"""Draw images with their annotations."""
