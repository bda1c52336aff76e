"""Where upstream publishes what, and what a lock entry is before its bytes were seen. PURE.

The names are upstream's since nydus v2.0.1 and nydus-snapshotter v0.13.6 (their .github/workflows/release.yml).
"""

from __future__ import annotations

from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.pairs import OTHER_ARCHIVE, spelled, tag
from agent.artifacts.selection import age
from agent.errors import ArtifactError
from agent.node.facts import Arch

_URLS = {
    ArtifactName.NYDUS: (
        "https://github.com/dragonflyoss/nydus/releases/download/{tag}/nydus-static-{tag}-linux-{arch}.tgz"
    ),
    ArtifactName.SNAPSHOTTER: (
        "https://github.com/containerd/nydus-snapshotter/releases/download/{tag}/"
        "nydus-snapshotter-{tag}-linux-{arch}.tar.gz"
    ),
}


def release(name: ArtifactName, version: str, arch: Arch) -> Artifact:
    """The entry of a release whose sizes, digests and programs are still to be seen: they are empty.

    Raises ArtifactError NNA1109 where upstream's archive of that version is of another form.
    """
    wanted = tag(version)
    if name is ArtifactName.SNAPSHOTTER and age(wanted)[0] < OTHER_ARCHIVE:
        raise ArtifactError(
            "NNA1109", f"{name} {wanted} cannot be installed",
            cause=f"before {spelled(OTHER_ARCHIVE)} upstream's archives are named and laid out otherwise, and are for "
            "amd64 only",
        )  # fmt: skip
    return Artifact(name, wanted, arch, _URLS[name].format(tag=wanted, arch=arch.value), 0, "", ())
