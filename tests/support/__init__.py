"""What tests of several files share: servers, mounts, folders to publish, damaged networks."""
