"""The 1024-bit perceptual hash of an image, its thumbnail, and the hashes of its frames."""

from twinscope_indexer.hashing.perceptual import BITS, BYTES, RECIPE, PHash, hash_pixels, phash, require_recipe

__all__ = ["BITS", "BYTES", "RECIPE", "PHash", "hash_pixels", "phash", "require_recipe"]
