"""Any microscope's image file to 8-bit grey pixels."""

from twinscope_indexer.imaging.reader import PIXEL_BUDGET, GreyImage, read_image, read_picture
from twinscope_indexer.imaging.sniffing import Source

__all__ = ["PIXEL_BUDGET", "GreyImage", "Source", "read_image", "read_picture"]
