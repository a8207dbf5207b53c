"""An Azure blob container as a store."""
