"""The settings of a labelling run."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass, field
from typing import Final, Literal

from twinscope_indexer.indexing.pages import PAGES, Pages
from twinscope_service.errors import OptionError
from twinscope_service.matching.policy import Policy, named_policy

from twinscope_client.outputs import LinkMode

MinGrade = Literal["excellent", "good"]
DEFAULT_TEMPLATE: Final = "{code}_{stem}{suffix}"
_FIELDS: Final = frozenset({"code", "category", "stem", "suffix", "hash", "grade", "parent", "date", "instrument"})


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """The settings of a labelling run.

    Raises
    ------
    OptionError
        If the template is not well formed, contains an unknown name, or contains neither ``{stem}`` nor ``{hash}``.
    """

    min_grade: MinGrade = "good"
    """Lowest grade that gets a label. With ``excellent``, only images that show the same acquisition as a reference are
    labelled."""
    template: str = DEFAULT_TEMPLATE
    """Template for the file name of a labelled copy. The template can contain these names in braces: code, category,
    stem, suffix, hash, grade, parent, date and instrument; see `naming.copy_name`."""
    jpeg: bool = False
    """Whether a JPEG is also written for each labelled image, with quality 100 and the name ``{code}_{hash}.jpg``."""
    sidecar: bool = False
    """Whether a JSON file is written next to each copy; it contains the origin of the label and the instrument
    metadata."""
    link: LinkMode = "copy"
    """How a labelled copy is made: as a copy of the file, a hard link or a symbolic link."""
    dry_run: bool = False
    """Whether the run only makes decisions and chooses file names, but writes no files."""
    policy: Policy = field(default_factory=lambda: named_policy("default"))
    pages: Pages = "all"
    """Which pages of a stack are queries: each page that is a picture, or only the first one. Use ``first`` if the
    pages are planes of one volume."""
    workers: int = os.cpu_count() or 1
    """Number of images that are processed at the same time; at most 16 processes read image files. With 0, the calling
    process reads one image after the other. An image file that crashes the decoder then also ends the calling
    process."""

    def __post_init__(self) -> None:
        if self.pages not in PAGES:
            msg = f"pages must be one of {', '.join(PAGES)}, got {self.pages!r}"
            raise OptionError(msg)
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}
            self.template.format(**dict.fromkeys(_FIELDS | fields, "x"))
        except (ValueError, LookupError, AttributeError) as error:
            msg = f"the name template {self.template!r} is not well formed: {error}"
            raise OptionError(msg) from error
        if not fields <= _FIELDS or not fields & {"stem", "hash"}:
            msg = (
                f"the name template {self.template!r} may use only the names {', '.join(sorted(_FIELDS))} in braces, "
                "and must use {stem} or {hash}"
            )
            raise OptionError(msg)
