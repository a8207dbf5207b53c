"""The only package that knows FUSE: mounting, answering the kernel, refreshing, ending."""
