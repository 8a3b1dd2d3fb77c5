"""Where the sidecar is and how it is talked to, from a URL or from options."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from segue.errors import InterfaceError

DEFAULT_PORT = 7400
DEFAULT_TIMEOUT_S = 30.0
"""The sidecar's own default, `limits.deadline_default`."""
DEFAULT_CONNECT_TIMEOUT_S = 10.0
DEFAULT_KEEPALIVE_S = 30.0
"""Shorter than the five minutes after which many balancers drop a silent connection."""


def loads_exact(text: str) -> Any:
    """Reads JSON; a number that a float would round comes as Decimal."""
    return json.loads(text, parse_float=_exact_float)


def _exact_float(text: str) -> Any:
    from decimal import Decimal

    number = float(text)
    exact = Decimal(text)
    if math.isinf(number) or Decimal(repr(number)) != exact:
        return exact
    return number


@dataclasses.dataclass(frozen=True)
class Options:
    """How a sidecar is reached and how calls are made."""

    host: str = "127.0.0.1"
    """Name or address."""
    port: int = DEFAULT_PORT
    """The port of `listen.sql`."""
    socket: str = ""
    """The path of a Unix socket; takes precedence over host and port."""
    tls: bool = False
    """Whether the connection is encrypted, by a proxy in front of the sidecar."""
    ca_file: str = ""
    """Certificates to trust (PEM); empty for those of the system."""
    cert_file: str = ""
    """This client's certificate (PEM)."""
    key_file: str = ""
    """Its key (PEM)."""
    server_name: str = ""
    """The name that the server's certificate must have, where it is not the host."""
    timeout: float | None = DEFAULT_TIMEOUT_S
    """Seconds that a call may take, retries included; None leaves it to the sidecar."""
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_S
    """Seconds to wait for a sidecar that is not up yet; 0 does not ask, the first call does."""
    keepalive: float = DEFAULT_KEEPALIVE_S
    """Seconds without traffic after which a call asks whether the sidecar is there; 0: never."""
    retry: bool = True
    """Whether calls are repeated by themselves where that is safe."""
    idempotency: bool = True
    """Whether single writes get an idempotency key by themselves."""
    routing_key: str = ""
    """The routing key of reads that give none."""
    application_name: str = ""
    """Comes first in the user agent."""
    json_loads: Callable[[str], Any] = loads_exact
    """Reads JSON; `str` gives the text as it is."""

    @classmethod
    def parse(cls, url: str = "", **options: Any) -> Options:
        """The options of a URL; keyword arguments take precedence."""
        found = _of_url(url) if url else {}
        names = {field.name for field in dataclasses.fields(cls)}
        for name in options:
            if name not in names:
                raise InterfaceError(f"there is no option {name!r}; {_listed(names)}")
        made = cls(**{**found, **options})
        if bool(made.cert_file) != bool(made.key_file):
            raise InterfaceError("the certificate (cert) and its key (key) go together")
        return made

    @property
    def target(self) -> str:
        """The address as gRPC writes it."""
        if self.socket:
            return f"unix:{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Certificates to trust, key and certificate."""

        def read(path: str) -> bytes | None:
            try:
                return Path(path).read_bytes() if path else None
            except OSError as error:
                raise InterfaceError(f"{path} cannot be read: {error.strerror}") from error

        return read(self.ca_file), read(self.key_file), read(self.cert_file)


_BOOLEANS: dict[str, bool] = {
    "true": True,
    "1": True,
    "on": True,
    "false": False,
    "0": False,
    "off": False,
}
_UNITS_S: dict[str, float] = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(text: str) -> float:
    """Seconds, or a number with a unit: 10, 10s, 500ms."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text, re.ASCII)
    if parts is None:
        raise ValueError(text)
    return float(parts[1]) * _UNITS_S[parts[2]]


def _flag(text: str) -> bool:
    return _BOOLEANS[text]


# By the names that all clients have for them in a URL: the keyword, and what reads the value.
_URL_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ca": ("ca_file", str),
    "cert": ("cert_file", str),
    "key": ("key_file", str),
    "server_name": ("server_name", str),
    "routing_key": ("routing_key", str),
    "application_name": ("application_name", str),
    "connect_timeout": ("connect_timeout", _seconds),
    "keepalive": ("keepalive", _seconds),
    "timeout": ("timeout", lambda text: None if text == "none" else _seconds(text)),
    "retry": ("retry", _flag),
    "idempotency_keys": ("idempotency", _flag),
}
# A URL may have the keyword instead.
_KEYWORDS = {keyword: name for name, (keyword, _) in _URL_OPTIONS.items()}
_TLS_ONLY = frozenset({"ca", "cert", "key", "server_name"})
_SCHEMES = ("segue", "segue+tls", "segue+unix")


def _listed(names: Any) -> str:
    return "there are " + ", ".join(sorted(names))


def _of_url(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise InterfaceError(
            f"{url!r} is no URL of a sidecar: expected segue://host:port, segue+tls://host:port "
            "or segue+unix:///path/of/socket"
        )
    if parts.username or parts.password:
        raise InterfaceError("the URL has a user: a sidecar has none, its configuration names them")
    found: dict[str, Any] = {}
    if parts.scheme == "segue+unix":
        if not parts.path or parts.netloc:
            raise InterfaceError(f"{url!r} names no socket: expected segue+unix:///path/of/socket")
        found["socket"] = unquote(parts.path)
    else:
        if parts.path not in ("", "/"):
            raise InterfaceError(
                f"{url!r} has the path {parts.path!r}: a sidecar serves one database, leave it out"
            )
        if parts.hostname:
            found["host"] = parts.hostname
        try:
            found["port"] = parts.port or DEFAULT_PORT
        except ValueError as error:
            raise InterfaceError(f"{url!r} has no valid port: {error}") from None
        found["tls"] = parts.scheme == "segue+tls"
    found.update(_options_of(parts.query, parts.scheme))
    return found


def _options_of(query: str, scheme: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for given, text in parse_qsl(query, keep_blank_values=True):
        name = _KEYWORDS.get(given, given)
        if name not in _URL_OPTIONS:
            raise InterfaceError(f"a URL has no option {given!r}; {_listed(_URL_OPTIONS)}")
        if name in _TLS_ONLY and scheme != "segue+tls":
            raise InterfaceError(f"the option {given} is for segue+tls only")
        keyword, read = _URL_OPTIONS[name]
        if keyword in found:
            raise InterfaceError(f"the option {name} is given twice")
        try:
            found[keyword] = read(text)
        except (ValueError, KeyError):
            expected = (
                "true or false" if read is _flag else "seconds, or a time such as 10s or 500ms"
            )
            raise InterfaceError(
                f"the option {given} cannot be {text!r}; expected {expected}"
            ) from None
    return found
