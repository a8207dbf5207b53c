"""What is done with datasets beside mounting them: publish, sync, convert, preview, prefetch, demo."""
