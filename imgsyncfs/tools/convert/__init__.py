"""Convert folders of annotations between formats, in place or into another folder."""
