"""The 1024-bit perceptual hash of an image, the thumbnail of the image, and the hashes of the frames."""

import lazy_loader

# Names are imported on first use, because Numba and the decoders load slowly. The stub file ``__init__.pyi`` in this
# folder lists the names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
