"""What is one server, and where a redirect may lead: it must not make this node ask itself, or its cloud's metadata."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias
from urllib.parse import SplitResult

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PORTS = {"http": 80, "https": 443}
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(map(ipaddress.ip_address, (
    "169.254.169.254",  # most clouds
    "fd00:ec2::254",  # EC2, Nitro
    "fd20:ce::254",  # GCE
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle
)))  # fmt: skip
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ValueError."""
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)


def is_own(text: str) -> bool:
    """Whether an address is this machine's, its network's own services' or no single machine's."""
    address = innermost(text)
    # 0.0.0.0 reaches this machine itself.
    none = address.is_unspecified or address.is_multicast or address == ipaddress.ip_address("255.255.255.255")
    return address in _METADATA or address.is_link_local or address.is_loopback or none


def innermost(text: str) -> _Address:
    """An address, without its zone; the IPv4 address that an IPv6 one stands for, where it does."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
