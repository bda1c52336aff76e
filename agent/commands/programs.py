"""`nydus-agent programs`: Debian packages of the nydus programs.

`lock` pins a release, `package` makes its package, `list` tells what is installed and what the node uses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agent import wire
from agent.commands.context import Context
from agent.config.forms import is_release
from agent.console import Format, Part, Tone, Toned
from agent.errors import Exit, PlanError, ProgramsError, UsageError
from agent.facts.node import Arch, Binary, Unknown
from agent.node import installed
from agent.node.installed import Programs
from agent.ports import Files
from agent.programs.lock import ARCHITECTURES, Lock, Release, merged, select
from agent.programs.versions import NAMED_IN, ProgramName, Project, architecture, package_of

HELP = "make Debian packages of the nydus programs, and list those that are installed"
NEEDS_ROOT = False

_LOCK_FILE = "artifacts.lock.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (about, arguments, _run) in _ACTIONS.items():
        description = f"{about[0].upper()}{about[1:]}."
        action = actions.add_parser(name, help=about, description=description, allow_abbrev=False)
        arguments(action)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ProgramsError, ConfigError, UsageError, FileError."""
    try:
        return _ACTIONS[args.action][2](args, context)
    finally:
        context.console.passing("")


def _lock_arguments(parser: argparse.ArgumentParser) -> None:
    _add_releases(parser, "this version", "this machine's")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=_LOCK_FILE,
        help="the lock; what it pins already stays (default %(default)s)",
    )  # fmt: skip


def _package_arguments(parser: argparse.ArgumentParser) -> None:
    _add_releases(parser, "this version alone; default: all that the lock pins", "all that the lock pins")
    parser.add_argument("--lock", metavar="FILE", default=_LOCK_FILE, help="the lock (default %(default)s)")
    parser.add_argument(
        "-o", "--output", metavar="DIRECTORY", default=".",
        help="where the packages are put (default the working directory)",
    )  # fmt: skip


def _add_releases(parser: argparse.ArgumentParser, version: str, arch: str) -> None:
    for name in ("nydus", "snapshotter"):
        parser.add_argument(f"--{name}", metavar="VERSION", type=_version, help=f"of {name}: {version}")
    parser.add_argument(
        "--arch", choices=[one.value for one in ARCHITECTURES], action="append", default=[],
        help=f"for this architecture; may be repeated (default {arch})",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="source", metavar="URL|DIRECTORY", default="",
        help="a mirror or a directory that has the archives by their names (default the releases themselves)",
    )  # fmt: skip


def _version(text: str) -> str:
    version = text.removeprefix("v")
    if not is_release(version):
        raise argparse.ArgumentTypeError(f"{text} is not a version such as 2.4.4")
    return version


def _versions(args: argparse.Namespace) -> dict[Project, str]:
    named = ((Project.NYDUS, args.nydus), (Project.SNAPSHOTTER, args.snapshotter))
    return {project: version for project, version in named if version}


def _run_lock(args: argparse.Namespace, context: Context) -> Exit:
    from agent.programs import archive, package

    versions = _versions(args)
    if not versions:
        raise UsageError("NNA1002", "no version was named", try_="nydus-agent programs lock --nydus 2.4.4")
    path = Path(args.output).absolute()
    before = package.read_lock(path) if path.exists() else Lock()
    archive.check_source(args.source)
    seen: list[Release] = []
    try:
        for project, version in versions.items():
            for arch in _arches(args, context):
                each = _progress(context, f"{project} {version} ({arch})")
                seen.append(package.pin(project, version, arch, args.source, time.time(), each))
        made = merged(before, seen, str(path))
        package.write_lock(path, made)
    except OSError as error:
        cause = f"{error.filename or path}: {error.strerror or error}"
        raise ProgramsError("NNA1111", f"{path} cannot be made", cause=cause) from None
    _tell_lock(context, made, seen, path)
    return Exit.OK


def _arches(args: argparse.Namespace, context: Context) -> list[Arch]:
    if args.arch:
        return sorted({Arch(one) for one in args.arch})
    here = architecture(wire.program_ports(context.root).machine)
    if here not in ARCHITECTURES:
        raise UsageError("NNA1002", "no release is for this machine", try_="name one: --arch amd64")
    return [here]


def _progress(context: Context, what: str) -> Callable[[int], None]:
    context.console.progress(f"{what}: fetching")
    return lambda count: context.console.passing(f"{what}: {count >> 20} MiB")


def _tell_lock(context: Context, made: Lock, seen: list[Release], path: Path) -> None:
    console = context.console
    for one in seen:
        console.line(Toned(str(one), Tone.STRONG), f": {one.size} bytes, sha256 {one.sha256}")
        console.line(f"  {', '.join(program.name for program in one.programs)}")
    console.line(f"{path} pins what the releases hold now: compare the digests with what you know of them")
    console.emit("ProgramsLock", {"path": str(path), "releases": made.release})


def _run_package(args: argparse.Namespace, context: Context) -> Exit:
    from agent.programs import archive, package

    wanted = select(package.read_lock(Path(args.lock)), _versions(args), [Arch(one) for one in args.arch])
    archive.check_source(args.source)
    directory, processes = Path(args.output).absolute(), wire.program_ports(context.root).processes
    made = [
        package.make(one, args.source, directory, processes, _progress(context, str(one))) for one in wanted
    ]
    console = context.console
    for one in made:
        console.line(Toned(str(one.path), Tone.STRONG), f": {one.size} bytes, sha256 {one.sha256}")
    console.line("on a node of that architecture: sudo apt install ./FILE…, then nydus-agent apply")
    console.emit("ProgramsPackages", {"packages": made})
    return Exit.OK


# One signature for all actions.
def _run_list(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001
    ports = wire.program_ports(context.root)
    return show(context, installed.read_installed(context.load_config().config, ports), ports.files)


def show(context: Context, seen: Programs, files: Files) -> Exit:
    """Tell the programs that the configuration comes to, and the packages. Exit 3 where a program is missing.

    Raises FileError.
    """
    console = context.console
    console.table(
        [[name, *_columns(seen.binaries[name])] for name in ProgramName],
        header=("program", "version", "from", "path"),
    )
    packages = _packages(seen, files)
    if packages:
        console.line()
        console.table(
            [[str(one["package"]), _state(one)] for one in packages], header=("installed package", "")
        )
    for one in seen.missing if context.format is Format.TEXT else ():
        console.error(PlanError("NNA0201", f"{one.project} is not there", cause=one.reason, try_=one.try_))
    console.emit(
        "ProgramsList",
        {
            "programs": [_body(name, seen.binaries[name]) for name in ProgramName],
            "packages": packages,
            "missing": [
                {"project": one.project, "reason": one.reason, "try": one.try_} for one in seen.missing
            ],
        },
    )
    there = all(isinstance(seen.binaries[name], Binary) for name in ProgramName)
    return Exit.OK if there else Exit.NOT_AS_WANTED


def _columns(one: Binary | None | Unknown) -> tuple[Part, ...]:
    if not isinstance(one, Binary):
        return "-", "-", Toned(one.reason if isinstance(one, Unknown) else "not there", Tone.BAD)
    return one.version_text or "unknown", package_of(one.path) or "PATH", one.path


def _body(name: str, one: Binary | None | Unknown) -> dict[str, object]:
    if not isinstance(one, Binary):
        return {"name": name, "path": None, "version": None, "package": None}
    package = package_of(one.path) or None
    return {"name": name, "path": one.path, "version": one.version_text or None, "package": package}


def _packages(seen: Programs, files: Files) -> list[dict[str, object]]:
    """Every installed package: whether the node is set up with it, and whether the next apply takes it."""
    rendered = [fact.content for path in NAMED_IN if (fact := files.read(path)) is not None]
    chosen = {(one.project, one.version) for one in seen.chosen}
    return [
        {
            "package": project.package(version),
            "project": project,
            "version": version,
            "directory": project.directory(version),
            "applied": any(f"{project.directory(version)}/".encode() in content for content in rendered),
            "chosen": (project.value, version) in chosen,
        }
        for project in Project
        for version in installed.versions_here(files, project)
    ]


def _state(package: Mapping[str, object]) -> Part:
    if package["applied"]:
        return Toned("in use", Tone.GOOD) if package["chosen"] else "in use; the next apply takes another"
    return Toned("the next apply takes it", Tone.WARN) if package["chosen"] else ""


_ACTIONS: Mapping[
    str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace, Context], Exit]]
] = {
    "lock": ("pin releases of nydus and its snapshotter, to the byte", _lock_arguments, _run_lock),
    "package": ("make the Debian packages of releases that a lock pins", _package_arguments, _run_package),
    "list": ("list the installed packages, and the programs that the node uses", lambda _: None, _run_list),
}
