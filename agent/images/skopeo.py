"""skopeo, which copies images (skopeo-copy(1)): it checks every digest, finds credentials, and tries again
what broke.

Seen with 1.9.3 and 1.18, which are Debian's: layers of nydus images keep their media types with
--preserve-digests. A source is copied into a `dir:`, which keeps its manifest to the byte, and layers as they
are (`oci:` would compress).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from agent.errors import ConvertError, ProcessError
from agent.images.manifest import ImageName, Platform
from agent.system.followed import follow
from agent.system.process import ChildProcesses

Tell: TypeAlias = Callable[..., None]
"""Hears how many bytes of a step are done, and in words what is done just now."""

_SILENCE_S = 600.0
_TRIES = "3"
_POLICY = "containers/policy.json"
_PASSED_ON = (
    "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
"""Where credentials are (containers-auth.json(5)), and proxies, which may hold secrets: not for a command
line.
"""
_FATAL = re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"')
_LOGIN = "skopeo login REGISTRY, or --authfile FILE"
_KNOWN = (
    ("no image found in", "NNA1403", "skopeo inspect --raw IMAGE"),
    ("server gave HTTP response to HTTPS client", "NNA1410", "--plain-http HOST, where nobody is on the way"),
    ("x509", "NNA1410", "--ca FILE, of the authority that signed its certificate"),
    ("unauthorized", "NNA1410", _LOGIN),
    ("denied", "NNA1410", _LOGIN),
    ("authentication required", "NNA1410", _LOGIN),
)
"""What it says, the code for that, and what to try."""


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """How a registry is spoken to."""

    plain: bool = False
    """http; otherwise https, and its certificate is verified."""
    ca: str = ""
    """File of the authority, besides those of the system; empty: as skopeo finds it
    (containers-certs.d(5)).
    """


class Skopeo:
    """The program, with its files in a directory of the run. `authfile` is empty where it is to find
    credentials.
    """

    def __init__(
        self, directory: Path, name: str, authfile: str, environment: Mapping[str, str], home: Path
    ) -> None:
        self._directory, self._name = directory, name
        self._environment = {key: environment[key] for key in _PASSED_ON if key in environment}
        self._options = [f"--tmpdir={directory}"]
        if not any((place / _POLICY).exists() for place in (home / ".config", Path("/etc"))):
            # Nobody asked for signatures, and skopeo wants to be told.
            self._options.append("--insecure-policy")
        self._authfile = [f"--authfile={authfile}"] if authfile else []
        if ChildProcesses().which(name) is None:
            what = f"there is no {name}, which copies the images"
            raise ConvertError("NNA1410", what, try_="apt install skopeo")

    def fetch(
        self, source: ImageName, access: RegistryAccess, platform: Platform | None, target: Path, tell: Tell
    ) -> None:
        """One image into a directory; of an index the one for this platform, or for this machine. Raises
        ConvertError: NNA1403 it has none, NNA1410."""
        wanted = {} if platform is None else platform.body()
        names = {"os": "os", "architecture": "arch", "variant": "variant"}
        chosen = [f"--override-{names[key]}={value}" for key, value in wanted.items()]
        self._copy(chosen, self._ways("src", source, access), source.skopeo, f"dir:{target}", tell)

    def push(self, layout: str, target: ImageName, access: RegistryAccess, tell: Tell) -> None:
        """All images of a layout, byte for byte; the name of the target comes last.

        Raises ConvertError (NNA1410).
        """
        words = ["--all", "--preserve-digests", *self._ways("dest", target, access)]
        self._copy([], words, layout, target.skopeo, tell)

    def archive(self, image: Path, file: Path, name: str, tell: Tell) -> None:
        """An image of a directory as a tar of an OCI layout. Raises ConvertError (NNA1410)."""
        self._copy([], [], f"dir:{image}", f"oci-archive:{file}:{name}", tell)

    def unarchive(self, file: Path, image: Path, tell: Tell) -> None:
        """The one image of such a tar into a directory. Raises ConvertError (NNA1410)."""
        self._copy([], ["--preserve-digests"], f"oci-archive:{file}", f"dir:{image}", tell)

    def _copy(self, options: list[str], words: list[str], source: str, target: str, tell: Tell) -> None:
        argv = [self._name, *self._options, *options, "copy", f"--retry-times={_TRIES}", *self._authfile]
        argv += [*words, source, target]
        try:
            code, lines = follow(argv, tell, silence_s=_SILENCE_S, environment=self._environment)
        except ProcessError as error:
            raise ConvertError("NNA1410", f"{self._name} cannot be run", cause=error.cause) from None
        if code:
            cause = _cause(lines) or f"exit code {code}"
            known = ((found, try_) for said, found, try_ in _KNOWN if said in cause)
            found, advice = next(known, ("NNA1410", ""))
            raise ConvertError(found, f"skopeo cannot copy {source} to {target}", cause=cause, try_=advice)

    def _ways(self, side: str, image: ImageName, access: RegistryAccess) -> list[str]:
        if not image.host:
            return []
        if access.plain or not access.ca:
            return [f"--{side}-tls-verify={'false' if access.plain else 'true'}"]
        place = self._directory / f"{side}-certificates"
        place.mkdir(exist_ok=True)
        try:
            shutil.copyfile(access.ca, place / "ca.crt")
        except OSError as error:
            what = f"cannot use the CA {access.ca}"
            raise ConvertError("NNA1401", what, cause=error.strerror or "") from None
        return [f"--{side}-tls-verify=true", f"--{side}-cert-dir={place}"]


def _cause(lines: list[str]) -> str:
    """Its last words."""
    fatal = [found[1] for line in lines if (found := _FATAL.search(line))]
    return fatal[-1].replace('\\"', '"') if fatal else lines[-1] if lines else ""
