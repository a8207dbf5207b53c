"""The only room that knows FUSE: mounting, answering the kernel, refreshing, ending."""
