"""Where archives come from, and what shows that we may have them: a credential that goes to one place only."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping

from agent.artifacts.fetching import Source, SourceKind
from agent.config.model import ArtifactsConfig
from agent.errors import ArtifactError, FileError
from agent.ports_files import Files

_STORES = ("/etc/credstore", "/run/credstore")
"""Where systemd itself looks for a credential that a unit names without a path (systemd.exec(5), LoadCredential=)."""
_LONGEST = 8192


def source_of(
    files: Files, artifacts: ArtifactsConfig, given: str, environment: Mapping[str, str], *, is_directory: bool
) -> Source:
    """What was given on the command line, else `base_url`, else the releases themselves.

    The credential is for `base_url` alone, and nothing else needs it to be there. Raises ArtifactError NNA1122.
    """
    place = given or artifacts.base_url
    if not place:
        return Source(SourceKind.RELEASE)
    if re.match(r"https?://", place):
        ours = place.rstrip("/") == artifacts.base_url.rstrip("/")
        return Source(SourceKind.MIRROR, place, _authorization(files, artifacts, environment) if ours else "")
    if "://" in place:
        raise ArtifactError("NNA1122", f"{place} cannot be used as a source", cause="it is neither http nor https")
    return Source(SourceKind.DIRECTORY if is_directory else SourceKind.BUNDLE, place)


def _authorization(files: Files, artifacts: ArtifactsConfig, environment: Mapping[str, str]) -> str:
    """The Authorization header for `base_url`; "" where none is set. Raises ArtifactError NNA1122."""
    credential = artifacts.credential
    if not credential:
        return ""
    places = [credential] if credential.startswith("/") else _places(credential, environment)
    for path in places:
        try:
            fact = files.read(path)
        except FileError as error:
            raise _unusable(path, error.cause or error.what) from None
        if fact is not None:
            if fact.uid != 0 or stat.S_IMODE(fact.mode) & 0o077:
                raise _unusable(path, "others than root may read it")
            return _header(fact.content, path)
    raise _unusable(credential, f"it is not there: {', '.join(places)}")


def _places(name: str, environment: Mapping[str, str]) -> list[str]:
    own = environment.get("CREDENTIALS_DIRECTORY", "")
    return [f"{directory}/{name}" for directory in (*([own] if own.startswith("/") else []), *_STORES)]


def _header(content: bytes, path: str) -> str:
    """The content never gets into a message."""
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _unusable(path, "it is no text") from None
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise _unusable(path, "it does not hold one line, such as: Bearer TOKEN")
    return text


def _unusable(credential: str, cause: str) -> ArtifactError:
    return ArtifactError("NNA1122", f"the credential {credential} cannot be used", cause=cause)
