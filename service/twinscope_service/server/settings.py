"""Settings of the server.

A setting has a default, which a TOML file, environment variables and flags of the command can change. An environment
variable overrides the file, and a flag overrides both.
"""

# ruff: noqa: RUF009  _setting() returns a dataclass field, not a default value

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope_indexer.imaging.limits import MEGAPIXEL

from twinscope_service.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENVIRONMENT_PREFIX = "TWINSCOPE_"
_MOST = 1e9
_MAX_PORT = 65_535
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _setting(default: Any, text: str, *, least: float | None = None, most: float = _MOST, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "least": least, "most": most, "secret": secret})


@dataclass(frozen=True)
class ServerSettings:
    """All settings of ``twinscope serve``; the metadata of each field contain the help text and the range.

    Raises
    ------
    SettingsError
        If a value is out of range, if two settings contradict each other, or if other machines could use the server
        without protection.
    """

    host: str = _setting("127.0.0.1", "address to listen on; an address other than loopback needs TLS or --insecure")
    port: int = _setting(50051, "port to listen on; 0 means any free port", least=0, most=_MAX_PORT)
    insecure: bool = _setting(
        False, "allow plain text beyond this machine, for a private network or behind a proxy with TLS"
    )
    tls_certificate: Path | None = _setting(None, "PEM file of the certificate chain; reloaded when the file changes")
    tls_key: Path | None = _setting(None, "PEM file of the private key of the certificate", secret=True)
    tls_client_ca: Path | None = _setting(
        None, "PEM file of the authorities that must have issued the certificate of each client (mTLS)"
    )
    tokens: Path | None = _setting(
        None, "file of bearer tokens, one 'name role sha256' per line; reloaded when the file changes", secret=True
    )
    workers: int = _setting(os.cpu_count() or 1, "number of requests that are processed at the same time", least=1)
    max_waiting: int = _setting(
        256, "number of requests that may wait for a worker; further requests are refused with a retry delay", least=0
    )
    max_streams: int = _setting(64, "number of streams that may be open at the same time", least=1)
    stream_idle_seconds: float = _setting(
        60.0, "seconds after which a client is disconnected if it sends nothing, or accepts no answer", least=0.1
    )
    max_message_mib: int = _setting(16, "maximum size of a message, in MiB", least=1)
    max_upload_mib: int = _setting(256, "maximum size of an image file, in MiB", least=1)
    max_uploads_mib: int = _setting(
        1024, "memory for all uploads in progress, in MiB; further uploads are refused with a retry delay", least=1
    )
    max_megapixels: int = _setting(300, "maximum size of an image, in millions of pixels", least=1)
    requests_per_second: float = _setting(
        0.0, "maximum requests per second of each token or client address; 0 means no limit", least=0
    )
    cache_mib: int = _setting(256, "memory for the pixels of references, in MiB", least=0)
    refresh_seconds: float = _setting(1.0, "seconds between two checks for a new generation of the store", least=0.05)
    grace_seconds: float = _setting(
        30.0, "seconds that requests in progress have to finish when the server stops", least=0
    )
    lame_duck_seconds: float = _setting(
        1.0, "seconds between the report of NOT_SERVING and the refusal of calls", least=0
    )
    metrics_port: int = _setting(0, "loopback port for Prometheus metrics; 0 means no metrics", least=0, most=_MAX_PORT)
    channelz: bool = _setting(False, "offer the channelz diagnostics of gRPC (loopback only)")
    write: bool = _setting(True, "accept changes to the store")

    def __post_init__(self) -> None:
        for setting in fields(self):
            least, most, value = setting.metadata["least"], setting.metadata["most"], getattr(self, setting.name)
            if least is not None and not least <= value <= most:
                msg = f"{setting.name} must be at least {least} and at most {most:g}, got {value}"
                raise SettingsError(msg)
        if self.max_uploads_mib < self.max_upload_mib:
            msg = (
                f"max_uploads_mib (all uploads together) must be at least max_upload_mib (one upload); "
                f"got {self.max_uploads_mib} and {self.max_upload_mib}"
            )
            raise SettingsError(msg)
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "tls_certificate and tls_key must be given together: give both or neither"
            raise SettingsError(msg)
        if self.tls_client_ca is not None and self.tls_certificate is None:
            msg = "tls_client_ca needs tls_certificate and tls_key: client certificates require TLS"
            raise SettingsError(msg)
        if not (self.loopback or self.insecure or self.tls_certificate):
            msg = (
                f"{self.host} can be reached from other machines: give --tls-certificate and --tls-key, or "
                "--insecure if the network itself is protected"
            )
            raise SettingsError(msg)
        if self.channelz and not self.loopback:
            msg = "channelz shows every connection: use it only with a loopback address"
            raise SettingsError(msg)
        if self.tokens is not None and not self.loopback and self.tls_certificate is None:
            msg = "tokens would cross the network in plain text: give --tls-certificate and --tls-key"
            raise SettingsError(msg)

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can connect to the server."""
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def pixel_budget(self) -> int:
        """Maximum number of pixels of an image."""
        return self.max_megapixels * MEGAPIXEL

    def masked(self) -> dict[str, object]:
        """Return all settings as plain values; each secret is replaced by ``(set)``."""
        plain: dict[str, object] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.metadata["secret"] and value is not None:
                value = "(set)"
            plain[setting.name] = str(value) if isinstance(value, Path) else value
        return plain


def explained() -> dict[str, tuple[str, Any]]:
    """Return the help text and the default of every setting, by name."""
    return {setting.name: (setting.metadata["help"], setting.default) for setting in fields(ServerSettings)}


def load_settings(
    flags: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> ServerSettings:
    """Return the settings from the defaults, the file, the environment and the flags.

    The file overrides the defaults, the environment overrides the file, and a flag overrides all if it is not None.

    Raises
    ------
    SettingsError
        If the file or a flag names an unknown setting, a value is invalid, or the file cannot be read.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values |= _from_file(file)
    for name, text in (os.environ if environment is None else environment).items():
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and key in _TYPES and text:  # an empty variable has no effect
            values[key] = _parsed(key, text, f"environment variable {name}")
    unknown = sorted(set(flags) - set(_TYPES))
    if unknown:
        msg = f"unknown setting {', '.join(unknown)}; known: {', '.join(_TYPES)}"
        raise SettingsError(msg)
    values |= {
        key: _parsed(key, value, f"--{key.replace('_', '-')}") for key, value in flags.items() if value is not None
    }
    return replace(ServerSettings(), **values)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"settings file {file} cannot be read: {error}"
        raise SettingsError(msg) from error
    unknown = sorted(set(document) - set(_TYPES))
    if unknown:
        msg = f"settings file {file}: unknown setting {', '.join(unknown)}; known: {', '.join(_TYPES)}"
        raise SettingsError(msg)
    return {key: _parsed(key, value, f"settings file {file}") for key, value in document.items()}


_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text", "Path": "a path"}
_TYPES = {setting.name: str(setting.type) for setting in fields(ServerSettings)}


def _parsed(key: str, value: Any, layer: str) -> Any:
    kind = _TYPES[key].partition(" ")[0]
    try:
        return _PARSERS[kind](value)
    except (TypeError, ValueError) as error:
        msg = f"{layer}: {key} must be {_KINDS[kind]}, got {value!r}"
        raise SettingsError(msg) from error


def _whole(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise TypeError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not _text(value):
        raise ValueError(value)
    return Path(value)


def _truth(value: Any) -> bool:
    text = str(value).lower()
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError(value)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "bool": _truth, "int": _whole, "float": _number, "str": _text, "Path": _path,
}  # fmt: skip
