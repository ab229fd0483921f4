"""The exceptions that the indexer raises. `twinscope_client.errors` lists the exceptions of all packages."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ImageFault = Literal["missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large"]
"""The reasons why an image cannot be read. `ImageError` explains these reasons."""


class TwinscopeError(Exception):
    """Base class of Twinscope's own exceptions. An exception keeps all its attributes when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes, because the constructors of subclasses do not accept the message."""
        return _unpickled, (type(self), self.args, vars(self))


def _unpickled(kind: type[TwinscopeError], args: tuple[Any, ...], attributes: dict[str, Any]) -> TwinscopeError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class ImageError(TwinscopeError):
    """An image cannot be read.

    Attributes
    ----------
    source : str
        Path or name of the image that the caller passed.
    fault : str
        Kind of the fault: ``missing``, ``unreadable`` (no permission, or an input/output error), ``empty``,
        ``truncated``, ``damaged``, ``unsupported`` or ``too_large`` (more pixels than the pixel budget allows).
    detail : str
        Description of the fault in words.
    """

    def __init__(self, source: str, fault: ImageFault, detail: str) -> None:
        super().__init__(f"{source}: {detail}")
        self.source = source
        self.fault = fault
        self.detail = detail


def fault_of(error: Exception) -> tuple[ImageFault, str]:
    """Return the kind and the description of the fault, for any exception that was raised while an image was read."""
    if isinstance(error, ImageError):
        return error.fault, error.detail
    if isinstance(error, MemoryError):
        return "too_large", "not enough memory to decode it"
    return "damaged", f"unexpected {type(error).__name__}: {error}"


def os_reason(error: OSError) -> str:
    """Return why the system could not read a file or folder. A missing permission is never described as damage."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return error.strerror or str(error)


class RecipeError(TwinscopeError):
    """Hashes of different recipes cannot be compared, because distances between such hashes have no meaning.

    Attributes
    ----------
    found, expected : str
        Recipe of the hash (`found`), and recipe that the comparison needs (`expected`).
    """

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(
            f"this hash was made by recipe {found!r}, but {expected!r} is expected; distances between hashes of "
            "different recipes have no meaning. Hash the images again with one version of Twinscope."
        )


class TaxonomyError(TwinscopeError):
    """A category is not in the taxonomy, or a taxonomy or a table of labels is malformed.

    Attributes
    ----------
    cause : str
        Cause in a few words, the same for all images that have no category for this reason. Default: the message.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


class RemovalError(TwinscopeError):
    """A run of `index` was refused, because it would take many images out of a store or change many labels.

    The store was not changed.

    Attributes
    ----------
    images : int
        Number of images in the store.
    withdrawn, removed, relabelled : int
        Number of images that would be taken out because they have no category or can no longer be searched
        (`withdrawn`), that would be taken out because their files or pages no longer exist (`removed`), and that would
        get another category (`relabelled`).

    Parameters
    ----------
    store : str
        Folder of the store.
    changes : sequence of (str, str)
        Old and new names of some of the categories that would change.
    """

    def __init__(
        self,
        store: str,
        images: int,
        *,
        withdrawn: int = 0,
        removed: int = 0,
        relabelled: int = 0,
        changes: Sequence[tuple[str, str]] = (),
    ) -> None:
        parts = [
            f"take out {withdrawn} images that have no category or can no longer be read" * bool(withdrawn),
            f"take out {removed} images whose files or pages no longer exist" * bool(removed),
            f"give another category to {relabelled} images" * bool(relabelled),
        ]
        if changes:
            parts[-1] += f" ({', '.join(f'{old!r} becomes {new!r}' for old, new in changes)})"
        super().__init__(
            f"{store} has {images} images; this run would {', and '.join(filter(None, parts))}. Nothing was changed. "
            "Check the labels, the taxonomy and the sources, and that all disks are mounted. To see what would change: "
            "--dry-run. To do it: --yes (in Python: allow_removals=True)"
        )
        self.images = images
        self.withdrawn = withdrawn
        self.removed = removed
        self.relabelled = relabelled


class StoreError(TwinscopeError):
    """A store is missing or unusable, or a folder is not a store."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class IndexEngineError(TwinscopeError):
    """The index engine that an environment variable selects is unknown or cannot be loaded."""


class SettingsError(TwinscopeError):
    """A setting cannot be used: a setting of a server, a connection or a project, or an environment variable."""


class SourceError(TwinscopeError):
    """A folder, file or archive cannot be indexed or labelled."""


class UnknownImageError(TwinscopeError):
    """An image id is not in the store.

    Attributes
    ----------
    image_id : str
        Id that was requested.
    """

    def __init__(self, image_id: str) -> None:
        super().__init__(f"there is no image {image_id} in the store")
        self.image_id = image_id


class MissingExtraError(TwinscopeError):
    """An optional component of Twinscope is not installed.

    Attributes
    ----------
    extra : str
        Name of the missing component (an "extra" of pip). To install it: ``pip install 'twinscope[extra]'``.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs a component that is not installed: pip install 'twinscope[{extra}]'")
        self.extra = extra


@contextmanager
def extra_needed(feature: str, extra: str) -> Iterator[None]:
    """Raise `MissingExtraError` if the body of the ``with`` statement imports a package that is not installed.

    Parameters
    ----------
    feature : str
        What needs the package; the subject of the message.
    extra : str
        Name of the extra that contains the package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("twinscope_", "twinscope.")):  # a damaged installation
            raise
        raise MissingExtraError(feature, extra) from error
