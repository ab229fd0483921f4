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
    read_picture as read_picture,
)
from .sniffing import (
    Source as Source,
)
