"""Images that mean harm: their files have odd names, or a document of theirs an odd form."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.node import cache, images, layout, scene
from tests.node.boot import NodeError

FILES = 10
_LIE = "[2026-01-01 00:00:00.000000 +00:00] ERROR [x:1] Read from backend failed: Registry(Transport("
_NAMES = (
    f"a\n{_LIE}", f"\x1b[2J\r{_LIE}", "-rf", "$(reboot)", "`reboot`", "'; reboot; '", "%s%s%n", "\\",
    "\u202e\u2028gnp.exe", "x" * 255, "\udcff\udcfe", " ", "..\n", '{"a":' * 40, "*", "CON.",
)  # fmt: skip


def push(stage: scene.Stage) -> list[str]:
    """An image whose files are called oddly, and one whose manifest is nested 2,000 deep."""
    with tempfile.TemporaryDirectory() as scratch:
        made = layout.Layout(Path(scratch) / "layout")
        _make_evil(Path(scratch), made)
        image = images.read_image(made.directory, "evil")
        refs = [images.push_image(stage.node, made.directory, image, stage.ref("evil"))]
        manifest = (made.blobs / image.manifest.removeprefix("sha256:")).read_text()
    deep = '{"deep":' + '{"a":[' * 1000 + "0" + "]}" * 1000 + "," + manifest[1:]
    stage.node.write("/run/test-deep.json", deep)
    put = ["curl", "--silent", "--show-error", "--fail", "--request", "PUT"]
    put += ["--header", "Content-Type: application/vnd.oci.image.manifest.v1+json"]
    put += ["--data-binary", "@/run/test-deep.json", f"{stage.registry.url}/v2/evil/manifests/deep"]
    stage.node.run(put)
    return [*refs, f"{stage.registry.host}/evil:deep"]


def _make_evil(scratch: Path, made: layout.Layout) -> None:
    root, out = scratch / "root", scratch / "out"
    for directory in (root / "data", root / "names", out):
        directory.mkdir(parents=True)
    source = Path(images.__file__).parent / "programs" / "reader.c"
    subprocess.run(["gcc", "-O2", "-static", "-o", f"{root}/reader", str(source)], check=True, timeout=60)
    make = [f"{root}/reader", "make", f"{root}/data", str(FILES), "20000"]
    subprocess.run(make, check=True, timeout=60)
    deep = root / "names"
    for name in _NAMES:
        (root / "names" / name).write_text(f"{_LIE}\n" * 300)
        (root / "names" / f"link {name[:200]}").symlink_to("/../../../proc/1/environ")
    for _ in range(40):
        deep = deep / "d\n"
    deep.mkdir(parents=True)
    options = ["--type", "dir-rafs", "--fs-version", "6", "--compressor", "zstd"]
    files = ["--bootstrap", str(out / "bootstrap"), "--blob", str(out / "blob")]
    converter = str(cache.make("nydus") / "bin" / "nydus-image")
    done = subprocess.run(
        [converter, "create", *options, *files, str(root)], check=False, timeout=60, capture_output=True
    )
    if done.returncode:
        raise NodeError(f"nydus-image: {done.stdout.decode()}{done.stderr.decode()}")
    layout.add_nydus(made, "evil", out, ["/reader"])
