"""What is one server, and where a redirect may lead: it must not make this node ask itself, or its cloud's metadata."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias
from urllib.parse import SplitResult

from agent.artifacts.refusals import Refusal

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


def refusal_of(text: str, *, loopback: bool) -> Refusal | None:
    """Why an address is not asked; None: it may be. `loopback`: this machine's own may."""
    address = innermost(text)
    if address in _METADATA:
        return Refusal.ADDRESS_METADATA
    if address.is_link_local:
        return Refusal.ADDRESS_LINK_LOCAL
    if address.is_loopback:
        return None if loopback else Refusal.ADDRESS_LOOPBACK
    # 0.0.0.0 reaches this machine itself.
    if address.is_unspecified or address.is_multicast or address == ipaddress.ip_address("255.255.255.255"):
        return Refusal.ADDRESS_SPECIAL
    return None


def innermost(text: str) -> _Address:
    """An address, without its zone; the IPv4 address that an IPv6 one stands for, where it does."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
