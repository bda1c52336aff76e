"""Forms that texts in the configuration may have. Pure: nothing here looks at the node.

A form's check returns None where the text is right, else the reason and what to write instead.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

ROOT_BYTES = 70
"""Longest snapshotter root. nydusd's API socket lies below it and a socket's path ends at 107 bytes
(unix(7)); the snapshotter itself refuses more since 0.15.3 (containerd/nydus-snapshotter#655)."""

SOCKET_BYTES = 107  # sun_path without its final zero, unix(7)

Complaint: TypeAlias = tuple[str, str]
"""(reason, what to do)."""


class Form(enum.Enum):
    """What a text must look like."""

    MIRROR_URL = "http://ADDRESS:PORT"
    HTTP_URL = "http://ADDRESS[:PORT]/PATH"
    ORIGIN_URL = "empty, or http(s)://HOST[:PORT]"
    PATH = "absolute path"
    ROOT_PATH = "absolute path of at most 70 bytes"
    SOCKET_PATH = "absolute path of at most 107 bytes"
    OPTIONAL_PATH = "empty, or an absolute path"
    REGISTRY = "HOST[:PORT]"
    REGISTRY_OR_ALL = 'HOST[:PORT], or "*"'
    LISTEN = "empty, or ADDRESS:PORT"
    USER = "user name"
    UNIT = "name of a service of systemd"
    PROGRAM = "program in PATH, or an absolute path"
    PROGRAMS = '"newest", "system", or a version such as "2.4.4"'
    RELEASE = "version of a release, such as 2.4.4"
    ARCHIVE_URL = "http(s)://HOST[:PORT]/PATH/ARCHIVE"
    SHA256 = "64 hexadecimal digits"
    DOCKER_CONFIG = "empty, the absolute path of a config.json, or a name"

    def complaint(self, text: str) -> Complaint | None:
        """None where `text` has this form."""
        if any(ord(char) < 32 or ord(char) == 127 for char in text):
            return "holds a control character", "remove it"
        return _CHECKS[self](text)


Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(host: str) -> Address | None:
    """The IP address that `host` spells, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def endpoint_of(url: str) -> tuple[str, int] | None:
    """(address, port) of an http(s) URL, the scheme's port where none is named; None for anything else."""
    parts = _split(url)
    if not isinstance(parts, SplitResult) or not parts.hostname:
        return None
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = parts.port or default
    return (parts.hostname, port) if port else None


def _split(url: str) -> SplitResult | Complaint:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL ({error})", "write it as scheme://host:port/path"
    if port == 0:
        return "has port 0", "write the real port"
    return parts


def _bad_address(host: str) -> Complaint | None:
    """Refuses what can be no mirror: a proxy or ping there would reach the cloud's metadata service or
    nobody.
    """
    address = address_of(host)
    if address is None:
        fix = "write 127.0.0.1" if host == "localhost" else "write the address that it stands for"
        return f"names a host ({host}); the fence and nydusd need an address that DNS cannot change", fix
    if is_metadata(address):
        return f"{address} is link-local, or of a cloud's metadata service", "write the mirror's own address"
    meant = getattr(address, "ipv4_mapped", None) or address
    if meant.is_unspecified or meant.is_multicast:
        return f"{address} is no address of a single host", "write 127.0.0.1 for a mirror on this node"
    return None


def _networks(*names: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, names))


_METADATA = _networks(
    "168.63.129.16", "100.100.100.200", "fd00:100::100:200", "192.0.0.192", "fd00:c1::a9fe:a9fe",
    "fd00:ec2::/32", "fd20:ce::254", "fd00:42::42", "fd00:a9fe:a9fe::1",
)  # fmt: skip
"""Of Azure, Alibaba, Oracle, AWS, Google, Scaleway and Linode, where that is not link-local; it gives
credentials.
"""
_AROUND_IPV4 = _networks("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")


def is_metadata(address: Address) -> bool:
    """Whether it is never asked: link-local, or a cloud's metadata, an IPv4 address within IPv6 too."""
    return any(
        one.is_link_local or any(one in network for network in _METADATA)
        for one in (address, *_within(address))
    )


def _within(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that one of IPv6 may lead to: mapped, SIIT (RFC 2765), NAT64 (RFC 6052,
    8215), 6to4, Teredo.
    """
    if not isinstance(address, ipaddress.IPv6Address):
        return
    bits = int(address)
    if any(address in network for network in _AROUND_IPV4):
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
        # After a shorter prefix, around the octet that must be 0.
        octets = bits >> 64 << 56 | bits & (1 << 56) - 1
        yield from (ipaddress.IPv4Address(octets >> shift & 0xFFFFFFFF) for shift in (40, 32, 24))
    yield from (one for one in (address.sixtofour, *(address.teredo or ())) if one is not None)


def _mirror_url(text: str) -> Complaint | None:
    parts = _split(text)
    if not isinstance(parts, SplitResult):
        return parts
    if parts.scheme != "http" or not parts.hostname:
        return (
            "must be http://ADDRESS:PORT (dfdaemon's proxy port speaks plain http)",
            "write http://127.0.0.1:4001",
        )
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return "must end after the port", f"write http://{parts.hostname}:{parts.port or 4001}"
    if parts.port is None:
        return "names no port", f"write http://{parts.hostname}:4001"
    return _bad_address(parts.hostname)


def _http_url(text: str) -> Complaint | None:
    parts = _split(text)
    if not isinstance(parts, SplitResult):
        return parts
    if parts.scheme != "http" or not parts.hostname:
        reason = (
            "must be an http URL (dfdaemon's health and metrics ports speak plain http, and so do the probes)"
        )
        return reason, "write something like http://127.0.0.1:4003/healthy"
    if parts.username is not None:
        return "holds a user name", "remove it: there are no secrets in this file"
    return _bad_address(parts.hostname)


def _origin_url(text: str) -> Complaint | None:
    parts = _split(text)
    if not isinstance(parts, SplitResult):
        return parts
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be a registry's URL with its scheme", "write something like https://registry.example.org"
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        # dfdaemon parses the header as a URL and drops the connection where that fails.
        return "must end after the host and port, without a slash", f"write {parts.scheme}://{parts.netloc}"
    return None


def _path(text: str) -> Complaint | None:
    if not text.startswith("/"):
        return "is not an absolute path", "write the whole path from /"
    if any(part in ("..", ".") for part in text.split("/")):
        return 'holds "." or ".."', "write the path without them"
    return None


def _short_path(limit: int, why: str) -> Callable[[str], Complaint | None]:
    def check(text: str) -> Complaint | None:
        size = len(text.encode())
        if size > limit:
            return f"is {size} bytes long, at most {limit} are possible ({why})", "choose a shorter path"
        if text.strip("/") == "":
            return "must name something below /", "write the whole path from /"
        return _path(text)

    return check


def _optional(check: Callable[[str], Complaint | None]) -> Callable[[str], Complaint | None]:
    return lambda text: check(text) if text else None


# A registry as image names spell it: a DNS name, an IPv4 address or [IPv6], and a port.
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


def _registry(text: str) -> Complaint | None:
    if "/" in text:
        host = text.split("://")[-1].split("/")[0]
        return (
            "must be a registry's host and port only",
            f"write {host}" if host else "write HOST or HOST:PORT",
        )
    match = _REGISTRY.fullmatch(text)
    if not match:
        return "is not the name of a registry", "write HOST or HOST:PORT as image names spell it"
    if match[1] and not 1 <= int(match[1]) <= 65535:
        return "has a port out of range", "write a port from 1 to 65535"
    return None


def _registry_or_all(text: str) -> Complaint | None:
    return None if text == "*" else _registry(text)


def listen_of(text: str) -> tuple[Address, int] | None:
    """(address, port) of "ADDRESS:PORT" or "[ADDRESS]:PORT"; None where it is not that."""
    host, colon, port = text.rpartition(":")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return None
    address = address_of(host.strip("[]"))
    if (
        not colon
        or address is None
        or not port.isascii()
        or not port.isdigit()
        or not 1 <= int(port) <= 65535
    ):
        return None
    return address, int(port)


def _listen(text: str) -> Complaint | None:
    if not text or listen_of(text):
        return None
    return "must be ADDRESS:PORT with a port from 1 to 65535", 'write something like "127.0.0.1:14004"'


def _pattern(pattern: str, reason: str, action: str) -> Callable[[str], Complaint | None]:
    return lambda text: None if re.fullmatch(pattern, text) else (reason, action)


def _program(text: str) -> Complaint | None:
    if "/" in text:
        return _path(text)
    return (
        None
        if re.fullmatch(r"[A-Za-z0-9._-]+", text)
        else ("is not the name of a program", 'write "containerd"')
    )


_RELEASE = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){2}(?:-[0-9a-z]+(?:\.[0-9a-z]+)*)?")
"""Small letters only: a version is part of the name of a package."""
_ARCHIVE_URL = r"https?://[A-Za-z0-9.:\[\]-]+/(?:[A-Za-z0-9._~+%-]+/)*[A-Za-z0-9][A-Za-z0-9._+-]*"
"""No credentials, no query and no fragment: the last part is the archive's name, for a mirror or a directory
too.
"""
SYSTEM, NEWEST = "system", "newest"


def is_release(text: str) -> bool:
    """Whether this is the version of an upstream release, without its "v"."""
    return len(text) <= 60 and bool(_RELEASE.fullmatch(text))


def _programs(text: str) -> Complaint | None:
    if text in (SYSTEM, NEWEST) or is_release(text):
        return None
    if is_release(text.removeprefix("v")):
        return "has the v of the release's tag", f"write {text.removeprefix('v')}"
    return "is neither a version nor a known word", 'write "newest", "system" or a version such as "2.4.4"'


def _docker_config(text: str) -> Complaint | None:
    if not text.startswith("/"):
        name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", text)
        reason = "is neither a path nor the name of a credential"
        return None if name else (reason, "write the path of a file that only root may read")
    if found := _path(text):
        return found
    if not text.endswith("/config.json"):
        return "is not named config.json, as docker and the snapshotter call it", "name a config.json"
    if not re.fullmatch(r"[A-Za-z0-9._/+@-]+", text):
        return "has characters that a unit of systemd would read otherwise", "choose a plain path"
    return None


_CHECKS: dict[Form, Callable[[str], Complaint | None]] = {
    Form.MIRROR_URL: _mirror_url,
    Form.HTTP_URL: _http_url,
    Form.ORIGIN_URL: _optional(_origin_url),
    Form.PATH: _path,
    Form.ROOT_PATH: _short_path(ROOT_BYTES, "nydusd's sockets lie below it"),
    Form.SOCKET_PATH: _short_path(SOCKET_BYTES, "a socket's path"),
    Form.OPTIONAL_PATH: _optional(_path),
    Form.REGISTRY: _registry,
    Form.REGISTRY_OR_ALL: _registry_or_all,
    Form.LISTEN: _listen,
    Form.USER: _pattern(
        r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}",
        "is neither a user name nor a uid",
        'write the user that dfdaemon runs as, such as "root"',
    ),
    Form.UNIT: _pattern(
        r"[A-Za-z0-9:_.@\\-]+\.service",
        "is not the name of a service",
        'write something like "containerd.service"',
    ),
    Form.PROGRAM: _program,
    Form.PROGRAMS: _programs,
    Form.RELEASE: lambda text: None if is_release(text) else ("is not a version", "write it as in 2.4.4"),
    Form.ARCHIVE_URL: _pattern(
        _ARCHIVE_URL,
        "is not the URL of an archive",
        "write https://HOST/PATH/ARCHIVE, without credentials and query",
    ),
    Form.SHA256: _pattern(r"[0-9a-f]{64}", "is no sha256", "write its 64 hexadecimal digits"),
    Form.DOCKER_CONFIG: _optional(_docker_config),
}
