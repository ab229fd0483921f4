"""Exact search for the nearest 1024-bit codes by Hamming distance, and the index file in the format of FAISS."""
