from .consistency import (
    contradictions as contradictions,
)
from .model import (
    NO_METADATA as NO_METADATA,
)
from .model import (
    InstrumentMetadata as InstrumentMetadata,
)
from .model import (
    StagePosition as StagePosition,
)
from .reader import (
    acquisition_of as acquisition_of,
)
from .reader import (
    read_metadata as read_metadata,
)
from .reader import (
    read_sidecar as read_sidecar,
)
