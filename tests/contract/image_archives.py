"""Archives of images as `docker save` writes them, old and new, and of layouts; each can be wrong on purpose."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agent.oci.formats import digest_of

Entry = tuple[str, bytes | str]
"""A name with a file's content, or with what it is a symbolic link to."""


def tarred(entries: Iterable[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def config_of(*layers: bytes) -> bytes:
    ids = [digest_of(layer) for layer in layers]
    body = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}, "config": {}}
    return json.dumps(body).encode()


def saved(images: Mapping[str, Sequence[bytes]], *, links: bool = True) -> list[Entry]:
    """As Docker wrote it until 24: a directory for each layer; one that an image above has too is a link there."""
    entries, manifest, first = list[Entry](), list[object](), dict[bytes, str]()
    for tag, layers in images.items():
        names = []
        for at, layer in enumerate(layers):
            name = f"{digest_of(f'{tag} {at}'.encode())[7:]}/layer.tar"
            names.append(name)
            known = first.setdefault(layer, name)
            entries += [(f"{name[:64]}/VERSION", b"1.0")]
            entries += [(name, f"../{known}" if known != name and links else layer)]
        config = config_of(*layers)
        entries.append((f"{digest_of(config)[7:]}.json", config))
        manifest.append({"Config": entries[-1][0], "RepoTags": [tag] if tag else None, "Layers": names})
    return [*entries, ("manifest.json", json.dumps(manifest).encode()), ("repositories", b"{}")]


def files_of(directory: Path) -> list[Entry]:
    """A layout as a tar of it has it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return [(f"./{path.relative_to(directory)}", path.read_bytes()) for path in paths]
