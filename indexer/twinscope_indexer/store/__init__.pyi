from .reader import (
    Store as Store,
)
from .view import (
    StoreWarning as StoreWarning,
)
from .view import (
    View as View,
)
from .writer import (
    StoreWriter as StoreWriter,
)
from .writer import (
    open_writer as open_writer,
)
