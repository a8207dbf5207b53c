"""The gallery: a page that shows a dataset's images with their annotations, opened from disk without a server."""
