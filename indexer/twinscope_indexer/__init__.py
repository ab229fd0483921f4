"""Builds the searchable collection: images, hashes, the catalog and the FAISS binary index."""
