from .codes import BITS as BITS
from .codes import BYTES as BYTES
from .perceptual import (
    RECIPE as RECIPE,
)
from .perceptual import (
    PHash as PHash,
)
from .perceptual import (
    hash_pixels as hash_pixels,
)
from .perceptual import (
    phash as phash,
)
from .perceptual import (
    require_recipe as require_recipe,
)
