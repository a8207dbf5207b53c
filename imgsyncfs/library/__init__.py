"""The namespace: datasets as directories, siblings, choices, and what imgsyncfs says about itself."""
