"""Decoding of microscope image files to 8-bit grey pixels."""

import lazy_loader

# Names are imported on first use: Numba and the decoders are slow to import. The stub beside this file lists them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
