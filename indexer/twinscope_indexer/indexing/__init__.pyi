from .relocation import (
    relocate as relocate,
)
from .run import (
    IndexReport as IndexReport,
)
from .run import (
    count_images as count_images,
)
from .run import (
    index as index,
)
from .run import (
    preview as preview,
)
