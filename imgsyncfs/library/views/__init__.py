"""Views: datasets in the layouts of tools, as directories of a mount or as copied folders."""
