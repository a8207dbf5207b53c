"""Pools of worker processes, and threads; knows nothing of what they do."""
