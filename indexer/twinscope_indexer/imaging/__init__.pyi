from .reader import (
    PIXEL_BUDGET as PIXEL_BUDGET,
)
from .reader import (
    GreyImage as GreyImage,
)
from .reader import (
    read_image as read_image,
)
from .reader import (
    read_pil_image as read_pil_image,
)
from .sniffing import (
    Source as Source,
)
