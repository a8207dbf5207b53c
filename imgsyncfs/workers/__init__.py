"""Pools of worker processes and threads; knows nothing of their jobs."""
