"""Copy datasets to plain folders."""
