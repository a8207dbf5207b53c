"""Pictures: image files decoded, annotations drawn into them, images made smaller."""
