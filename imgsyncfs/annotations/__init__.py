"""The house format: objects, parsing, validation, writing; and the geometry of its boxes."""
