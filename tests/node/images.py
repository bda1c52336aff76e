"""The images that nodes run, made once, and how they get into a registry on a node.

python            a Debian root with python3 (well over 100 MB unpacked), plain OCI
python-nydus      the same as RAFS v6
reader            600 files of 200 KiB and the reader (programs/reader.c), plain OCI
reader-nydus      the same as RAFS v6, zstd: wrong bytes cannot be decoded
reader-raw-nydus  the same, not compressed: wrong bytes reach the container
cold-a-nydus      6000 files of 16 KiB and the reader, RAFS v6, zstd: cold reads for minutes
cold-b-nydus      the same with other content

Beside them, not for a registry: the sandbox image of pods, see `load_pause`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.node import cache, layout, registry_push
from tests.node.boot import Node, NodeError

PAUSE_REF = "registry.k8s.io/pause:3.8"  # what containerd 1.7.24 asks for unless it is configured
READER_FILES = 600
COLD_FILES = 6000

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Image:
    """An image in the layout: its digests and what a registry has to send for it."""

    name: str
    manifest: str
    layers: tuple[tuple[str, int], ...]
    """Digest and size in bytes of each layer, in the manifest's order."""

    @property
    def size(self) -> int:
        """Bytes of all layers: what a plain pull fetches."""
        return sum(size for _, size in self.layers)

    @property
    def blob(self) -> str:
        """The digest of the first layer: of a nydus image, the RAFS blob."""
        return self.layers[0][0]


@functools.cache
def made() -> Path:
    """Where the images are, made now if they are not there (about a minute); the cold ones are `cold()`."""
    return _made("images")


@functools.cache
def cold() -> Path:
    """Where the cold-… images are: apart, because only long measurements need them (seconds)."""
    return _made("cold")


def _made(recipe: str) -> Path:
    reader, writer = _HERE / "programs" / "reader.c", Path(layout.__file__)
    texts = hashlib.sha256(reader.read_bytes() + writer.read_bytes()).hexdigest()
    env = {
        "NYDUS_IMAGE": str(cache.make("nydus") / "bin" / "nydus-image"),
        "READER_C": str(reader),
        "LAYOUT_PY": str(writer),
    }
    return cache.make(recipe, texts, cache.key_of("nydus"), env=env)


def layout_of(name: str) -> Path:
    """The layout that holds an image."""
    return (cold() if name.startswith("cold-") else made()) / "layout"


@functools.cache
def image(name: str) -> Image:
    """An image by its name above. Raises KeyError for another name."""
    return read_image(layout_of(name), name)


def read_image(directory: Path, name: str) -> Image:
    """An image of a layout, by its name there. Raises KeyError for another name."""
    index = json.loads((directory / "index.json").read_text())
    names = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in index["manifests"]
    }
    file = directory / "blobs" / "sha256" / names[name].removeprefix("sha256:")
    manifest = json.loads(file.read_text())
    return Image(name, names[name], tuple((layer["digest"], layer["size"]) for layer in manifest["layers"]))


def push(
    node: Node, name: str, ref: str, *, tls: bool = False, user: str | None = None, password: str = ""
) -> str:
    """Put an image into a registry that runs on the node, as `HOST:PORT/REPO:TAG`. Returns `ref`.

    Goes straight to the node's 127.0.0.1 whatever the host's name is; a certificate is not checked.
    Raises NodeError when the registry does not take it.
    """
    return push_image(node, layout_of(name), image(name), ref, tls=tls, user=user, password=password)


def push_image(
    node: Node,
    directory: Path,
    pushed: Image,
    ref: str,
    *,
    tls: bool = False,
    user: str | None = None,
    password: str = "",
) -> str:
    """`push` for an image of any layout."""
    host, _, rest = ref.partition("/")
    repository, _, tag = rest.rpartition(":")
    command = ["nsenter", f"--target={node.leader}", "--net", "--", sys.executable, registry_push.__file__]
    command += [str(directory), pushed.manifest, host, repository, tag]
    command += ["--tls"] if tls else []
    command += ["--user", user] if user is not None else []
    done = subprocess.run(command, input=password, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise NodeError(f"push of {pushed.name} to {ref}: {done.stdout}{done.stderr}")
    return ref


def load_pause(node: Node) -> None:
    """Put the sandbox image of pods where containerd's CRI part finds it, so that no registry is asked for
    it.
    """
    layout_tar = subprocess.run(
        ["tar", "--create", "--directory", str(made() / "pause"), "."],
        capture_output=True,
        check=True,
        timeout=60,
    )
    node.run(["ctr", "--namespace=k8s.io", "images", "import", "-"], input=layout_tar.stdout)
    # CRI learns of the image by an event, a moment later.
    node.wait_until(lambda: has_pause(node), 20, f"CRI knows {PAUSE_REF}")


def has_pause(node: Node) -> bool:
    return bool(node.run(["crictl", "inspecti", "--quiet", PAUSE_REF], check=False).stdout.strip())
