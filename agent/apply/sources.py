"""Where archives come from, and what is for one place only: the credential that it gets, the CA that it is known by."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import replace

from agent.artifacts.fetching import Source, SourceKind
from agent.config.model import ArtifactsConfig
from agent.errors import ArtifactError, FileError
from agent.ports_files import Files
from agent.registry.places import credential_paths

_LONGEST = 8192
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_CA_CAP = 512 << 10
"""Bytes: twice the whole store of a system."""


def source_of(artifacts: ArtifactsConfig, given: str, *, is_directory: bool) -> Source:
    """What was given on the command line, else `base_url`, else the releases themselves. Raises ArtifactError."""
    place = given or artifacts.base_url
    if not place:
        return Source(SourceKind.RELEASE)
    if re.match(r"https?://", place):
        return Source(SourceKind.MIRROR, place)
    if "://" in place:
        raise ArtifactError("NNA1122", f"{place} cannot be used as a source", cause="it is neither http nor https")
    return Source(SourceKind.DIRECTORY if is_directory else SourceKind.BUNDLE, place)


def unlocked(files: Files, artifacts: ArtifactsConfig, environment: Mapping[str, str], source: Source) -> Source:
    """The same with credential and CA, where it is `base_url`; nothing else gets them, or needs them to be there.

    For who is about to fetch from it. Raises ArtifactError NNA1122.
    """
    if source.kind is not SourceKind.MIRROR or source.place.rstrip("/") != artifacts.base_url.rstrip("/"):
        return source
    authorization, ca = _authorization(files, artifacts, environment), _authority(files, artifacts.ca)
    return replace(source, authorization=authorization, ca=ca)


def _authorization(files: Files, artifacts: ArtifactsConfig, environment: Mapping[str, str]) -> str:
    """The Authorization header for `base_url`; "" where none is set. Raises ArtifactError NNA1122."""
    credential = artifacts.credential
    if not credential:
        return ""
    places = credential_paths(credential, environment)
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


def _authority(files: Files, path: str) -> str:
    """The certificates in a file; "" where none is named. Whether they are sound is seen where they are used."""
    if not path:
        return ""
    try:
        fact = files.read(path)
    except FileError as error:
        raise _unusable(path, error.cause or error.what, "CA") from None
    if fact is None:
        raise _unusable(path, "it is not there", "CA")
    if len(fact.content) > _CA_CAP:
        raise _unusable(path, f"it is longer than {_CA_CAP} bytes", "CA")
    if not fact.content.isascii() or _CERTIFICATE not in fact.content:
        raise _unusable(path, "it holds no certificate (PEM)", "CA")
    return fact.content.decode("ascii")


def _header(content: bytes, path: str) -> str:
    """The content never gets into a message."""
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _unusable(path, "it is no text") from None
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise _unusable(path, "it does not hold one line, such as: Bearer TOKEN")
    return text


def _unusable(path: str, cause: str, what: str = "credential") -> ArtifactError:
    return ArtifactError("NNA1122", f"the {what} {path} cannot be used", cause=cause)
