"""Redirects lead to other machines only."""

from __future__ import annotations

import pytest

from agent.registry.addresses import is_own


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "169.254.0.1", "fe80::1%eth0", "2002:a9fe:a9fe::",
     "100.100.100.200", "0.0.0.0", "::", "ff02::1", "64:ff9b::7f00:1"],
)  # fmt: skip
def test_an_address_of_this_machine_or_of_no_single_one_is_not_asked(address: str) -> None:
    assert is_own(address)


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "64:ff9b::c000:201"])
def test_another_machine_is_asked(address: str) -> None:
    assert not is_own(address)
