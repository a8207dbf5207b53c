"""Stores: where the bytes of a catalog lie. A small contract, a local folder, an Azure blob container."""
