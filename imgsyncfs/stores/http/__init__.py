"""Kept HTTP connections for reads of blobs."""
