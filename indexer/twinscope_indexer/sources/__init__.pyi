from .corpus import (
    Item as Item,
)
from .corpus import (
    Scope as Scope,
)
from .corpus import (
    Walk as Walk,
)
from .corpus import (
    scope_of as scope_of,
)
from .corpus import (
    walk as walk,
)
from .location import (
    opened_source as opened_source,
)
