"""What upstream publishes: known to all who plan, also where nothing of it is installed."""

from __future__ import annotations

import enum


class ArtifactName(enum.StrEnum):
    """What upstream publishes as one archive."""

    NYDUS = "nydus"
    SNAPSHOTTER = "nydus-snapshotter"

    @property
    def main_program(self) -> str:
        """The program without which the archive would be of no use."""
        return {ArtifactName.NYDUS: "nydusd", ArtifactName.SNAPSHOTTER: "containerd-nydus-grpc"}[self]
