"""The wrong release: mixed up, or vouched for by nothing, or by a checksum of something else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace

from agent.artifacts.fetching import Source, SourceKind
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal
from agent.node.facts import Arch
from tests.hostile import tars
from tests.hostile.case import PATH, Case, Scene
from tests.hostile.server import Exchange, answer, head
from tests.hostile.stage import GOOD, PROGRAMS, pinned, release
from tests.unit.artifacts import elf

_NAME = PATH.rpartition("/")[2]
_DIGEST = hashlib.sha256(GOOD).hexdigest()
_ANOTHER = tars.gz(release({**PROGRAMS, "nydusd": elf(os.urandom(410_000))}))
_ARM = tars.gz(release({name: elf(content[24:], Arch.ARM64) for name, content in PROGRAMS.items()}))
"""Programs of the same sizes."""
assert all(len(elf(content[24:], Arch.ARM64)) == len(content) for content in PROGRAMS.values())
_SNAPSHOTTER = tars.gz(tars.archive(tars.member("bin/containerd-nydus-grpc", elf(os.urandom(400_000)))))


def _other(content: bytes, **what: object) -> Artifact:
    return replace(pinned(content, f"https://example.org/{_NAME}"), **what)  # type: ignore[arg-type]  # passed on


def _mixed(scene: Scene) -> Artifact:
    """The mirror gives another version, which the lock names too."""
    scene.others = (_other(GOOD), _other(_ANOTHER, version="v2.4.3"))
    return scene.serve(answer(_ANOTHER), GOOD)


def _endless_checksum(scene: Scene) -> Artifact:
    artifact = scene.publish(GOOD, None)

    def write(exchange: Exchange) -> bool:
        exchange.send(head())
        while True:
            exchange.send(b"0" * 65536)

    scene.web.routes[f"{PATH}.sha256sum"] = write
    return artifact


def _as_long(scene: Scene) -> Artifact:
    """Another version, the lock of this one, and no program that would tell them apart before the end."""
    artifact = scene.serve(answer(GOOD), GOOD)
    scene.others = (_other(GOOD, version="v2.4.3"),)
    return replace(artifact, sha256="1" * 64)


def _in_directory(prepare: Callable[[Scene], object]) -> Callable[[Scene], Artifact]:
    def lay(scene: Scene) -> Artifact:
        scene.source = Source(SourceKind.DIRECTORY, str(scene.directory))
        prepare(scene)
        return pinned(GOOD, f"https://example.org/{_NAME}")

    return lay


def _link(scene: Scene) -> None:
    (scene.directory / _NAME).symlink_to("/etc/shadow")


def _write(content: bytes) -> Callable[[Scene], object]:
    return lambda scene: (scene.directory / _NAME).write_bytes(content)


CASES = (
    Case("another version that the lock names", Refusal.OTHER_ARTIFACT, _as_long, "it is nydus v2.4.3 (amd64)"),
    Case("another version, of another length", Refusal.LENGTH_SAID, _mixed, "nydus v2.4.3 (amd64) is as long"),
    Case("the archive for another architecture", Refusal.ELF_MACHINE,
         lambda scene: scene.serve(answer(_ARM), _ARM), "it is for arm64"),
    Case("the archive of another artifact", Refusal.MISSING,
         lambda scene: scene.serve(answer(_SNAPSHOTTER), _SNAPSHOTTER), "nydusd"),
    Case("a digest that is not the lock's", Refusal.DIGEST,
         lambda scene: replace(scene.serve(answer(GOOD), GOOD), sha256="0" * 64), _DIGEST),
    Case("a checksum that is missing", Refusal.NOT_FOUND, lambda scene: scene.publish(GOOD, None), ".sha256sum"),
    Case("a checksum that is a web page", Refusal.CHECKSUM_FORM,
         lambda scene: scene.publish(GOOD, b"<html>log in</html>"), "log in"),
    Case("a checksum without a name", Refusal.CHECKSUM_FORM,
         lambda scene: scene.publish(GOOD, f"{_DIGEST}\n".encode()), _DIGEST),
    Case("checksums of many files", Refusal.CHECKSUM_FORM,
         lambda scene: scene.publish(GOOD, f"{_DIGEST}  {_NAME}\n{'0' * 64}  other\n".encode())),
    Case("an endless checksum", Refusal.TOO_LARGE, lambda scene: scene.publish(GOOD, b"0" * 100_000), "100000"),
    Case("a checksum without end", Refusal.CHECKSUM_LENGTH, _endless_checksum, "1024"),
    Case("the checksum of another file", Refusal.CHECKSUM_NAME,
         lambda scene: scene.publish(GOOD, f"{_DIGEST}  nydus-static-v2.4.3-linux-amd64.tgz\n".encode()), "v2.4.3"),
    Case("the checksum of other bytes", Refusal.CHECKSUM_DIGEST,
         lambda scene: scene.publish(GOOD, f"{'0' * 64}  {_NAME}\n".encode()), "0" * 64),
    Case("a release without the program it is named after", Refusal.NO_PROGRAM,
         lambda scene: scene.publish(_SNAPSHOTTER, f"{hashlib.sha256(_SNAPSHOTTER).hexdigest()}  {_NAME}\n".encode()),
         "nydusd"),
    Case("a directory without the archive", Refusal.NO_FILE, _in_directory(lambda _: None), "No such file"),
    Case("a directory with a link to a secret", Refusal.NO_FILE, _in_directory(_link), "symbolic link"),
    Case("a directory with a fifo", Refusal.NO_FILE,
         _in_directory(lambda scene: os.mkfifo(scene.directory / _NAME)), "not a regular file"),
    Case("a directory with a shortened archive", Refusal.TOO_SHORT,
         _in_directory(_write(GOOD[:-1])), f"{len(GOOD) - 1} bytes"),
    Case("a directory with a lengthened archive", Refusal.TOO_LONG, _in_directory(_write(GOOD + b"!")), "more than"),
)  # fmt: skip
