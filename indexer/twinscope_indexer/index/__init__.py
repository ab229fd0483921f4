"""Exact Hamming search over 1024-bit codes, and FAISS's file."""
