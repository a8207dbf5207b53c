"""The namespace: datasets as directories, siblings, selections, and the files about the mount itself."""
