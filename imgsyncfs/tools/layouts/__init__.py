"""Folders in the layouts of tools: which one it is, which images are in it, and where their annotations come from."""
