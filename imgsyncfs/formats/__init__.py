"""The annotation formats: house annotation to a tool's file and back; `imgsyncfs.formats.registry` lists them."""
