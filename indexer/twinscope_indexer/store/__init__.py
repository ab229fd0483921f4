"""Stores: the catalog and the generations of a store, and the classes that read and write a store."""

import lazy_loader

# Names are imported when they are first used, because importing numba and the decoders is slow. The stub file lists
# these names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
