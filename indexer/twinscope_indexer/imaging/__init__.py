"""Decoding of microscope image files to 8-bit grey pixels."""

import lazy_loader

# Names are imported on first use, because Numba and the decoders load slowly. The stub file ``__init__.pyi`` in this
# folder lists the names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
