"""Any files of containerd's, for properties that must hold whatever others wrote."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

SNAPSHOTTERS = ("a", "b", "c")
VALUES = st.sampled_from(SNAPSHOTTERS)
VERSIONS = {"1.6.20": 2, "1.7.24": 2, "2.1.9": 3, "2.4.2": 4}
"""The newest version of a file that each containerd reads."""


def section(version: int, snapshotter: str, *, runtimes: bool, short: bool) -> str:
    """CRI's tables as a version of the file spells them."""
    if version >= 3:
        runtime = '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.x]\nsnapshotter = "r"\n'
        images = f'[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "{snapshotter}"\n'
        return images + (runtime if runtimes else "")
    cri = "[plugins.cri.containerd" if short else '[plugins."io.containerd.grpc.v1.cri".containerd'
    runtime = f'{cri}.runtimes.x]\nruntime_type = "{snapshotter}"\n' if runtimes else ""
    return f'{cri}]\nsnapshotter = "{snapshotter}"\n{runtime}'


@st.composite
def one_file(draw: st.DrawFn) -> bytes:
    """A file of any version, which may spell CRI's tables as another one does."""
    version = draw(st.integers(0, 4))
    spelled = draw(st.integers(0, 4))
    head = f"version = {version}\n" if version else ""
    body = section(spelled, draw(VALUES), runtimes=draw(st.booleans()), short=draw(st.booleans()))
    return (head + draw(st.sampled_from(["", body]))).encode()


FILES = st.lists(one_file(), min_size=1, max_size=3)
"""The root file and drop-ins."""


def laid(files: list[bytes], place: str, *, globbed: bool = False) -> Mapping[str, bytes]:
    """The files by path; the root file, config.toml, imports the others."""
    others = {f"{place}/conf.d/{number}.toml": content for number, content in enumerate(files[1:])}
    imports = [f"{place}/conf.d/*.toml"] if globbed else list(others)
    head = f"imports = {imports}\n".encode() if imports else b""
    return {f"{place}/config.toml": head + files[0], **others}
