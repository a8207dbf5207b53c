"""The house format: objects, parsing, validation, writing; the geometry of its boxes; classes in order, and splits."""
