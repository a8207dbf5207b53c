"""Extents from stores into the cache: one request an extent, a queue, readahead."""
