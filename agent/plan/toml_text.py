"""TOML strings for texts that are rendered line by line."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    """`text` as a TOML basic string. JSON's escapes are a subset of TOML's (toml.io, v1.0.0, "String")."""
    return json.dumps(text, ensure_ascii=False)
