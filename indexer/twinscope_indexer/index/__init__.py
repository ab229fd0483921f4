"""Exact Hamming search over 1024-bit codes, and the FAISS index file."""
