"""Whole-dataset documents: one file that says what is labelled in all images, written as a stream, and read back."""
