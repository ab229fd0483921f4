"""The settings of a labelling run."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass, field
from typing import Final, Literal

from twinscope_service.errors import OptionError
from twinscope_service.matching.policy import Policy, named_policy

from twinscope_client.outputs import LinkMode

MinGrade = Literal["excellent", "good"]
DEFAULT_TEMPLATE: Final = "{code}_{stem}{suffix}"
_FIELDS: Final = frozenset({"code", "category", "stem", "suffix", "hash", "grade"})


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """The settings of a labelling run.

    Raises
    ------
    OptionError
        If the template is not well formed, or names an unknown field.
    """

    min_grade: MinGrade = "good"
    """The lowest grade that is labelled; ``excellent``: only if the acquisition itself was found."""
    template: str = DEFAULT_TEMPLATE
    """File name of a labelled copy, with the fields code, category, stem, suffix, hash, grade."""
    jpeg: bool = False
    """Also write a quality-100 JPEG named ``{code}_{hash}.jpg``."""
    sidecar: bool = False
    """Also write a JSON file next to each labelled copy, with the origin of the label and the instrument metadata."""
    link: LinkMode = "copy"
    """Whether the TIFF is copied or linked."""
    dry_run: bool = False
    """Decide and reserve names, but write no files."""
    policy: Policy = field(default_factory=lambda: named_policy("default"))
    workers: int = os.cpu_count() or 1
    """How many images are read (by up to 16 processes) and searched at a time. 0: one at a time, in this process; a
    file that crashes its decoder then ends the process."""

    def __post_init__(self) -> None:
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}
            self.template.format(**dict.fromkeys(_FIELDS | fields, "x"))
        except (ValueError, LookupError, AttributeError) as error:
            msg = f"the name template {self.template!r} is not well formed: {error}"
            raise OptionError(msg) from error
        if not fields <= _FIELDS or not fields & {"stem", "hash"}:
            msg = (
                f"the name template {self.template!r} may use {', '.join(sorted(_FIELDS))} in braces, "
                "and must use {stem} or {hash}"
            )
            raise OptionError(msg)
