"""Bring images and annotations into a catalog: from a folder, or in place in a store."""
