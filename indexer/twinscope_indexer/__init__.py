"""Builds the searchable collection: images, hashes, the catalogue and the FAISS binary index."""
