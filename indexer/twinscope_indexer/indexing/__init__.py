"""Bulk indexing: build or update a store from a collection of images."""

import lazy_loader

# Names are imported on first use, because Numba and the decoders load slowly. The stub file beside this file lists the
# names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
