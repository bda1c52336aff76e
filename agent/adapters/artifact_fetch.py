"""Starts the download child, hands it what it may touch, hears what it says, and sees to its end.

Root opens every file: those that the child reads (an archive on this node) and those that it writes (the programs), and
passes them with the job over a socket that is the child's standard input. So the child needs no directory, and what
it leaves behind are root's own regular files, of which only the content is in doubt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.adapters.artifact_bundle import BundleFiles
from agent.adapters.process import ChildProcesses, Feed
from agent.adapters.walk import NEW, READ
from agent.artifacts import fetching, sandbox
from agent.artifacts.fetching import Done, Failed, Job, Local, Progress, SourceKind
from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.refusals import REASONS, Refusal
from agent.errors import ArtifactError, ProcessError

_BOOTED = "/run/systemd/system"
"""There where systemd is PID 1 (sd_booted(3))."""
_RESOLV_CONF = "/etc/resolv.conf"
_START = "import os, sys; sys.path.insert(0, {!r}); from agent.artifacts.child import main; os._exit(main.main())"
"""It ends by _exit(2): threads that hang in a read must not keep the process."""
_END_S = 5.0
_LAST_S = 1.0
_HAND_OVER_S = 10.0
_TOO_LATE, _NONSENSE = Failed(Refusal.DEADLINE, ""), Failed(Refusal.ANSWER, "")
_BEGUN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECKSUM_CAP = 1025
"""Characters of a .sha256sum that are passed on; the child refuses more than 1024."""


class SandboxedSource:
    """Archives from the release, a mirror, a directory or a bundle."""

    def __init__(self, *, booted: bool | None = None) -> None:
        """`booted` says whether systemd can make the sandbox; None: as it is here."""
        self._booted = os.path.isdir(_BOOTED) if booted is None else booted

    def fetch(
        self, job: Job, into: str, on_progress: Callable[[Progress], None], *, deadline_s: float, begun: str = ""
    ) -> tuple[Artifact, ...]:
        """See ports_fetch.ArtifactSource."""
        with contextlib.ExitStack() as open_files:
            local, inputs = _inputs(job, begun, open_files)
            outputs = _outputs(job, into, open_files)
            done = self._run(job, fetching.encode_job(job, local), [*inputs, *outputs], on_progress, deadline_s)
        try:
            found = fetching.answer(job, done)
        except ValueError as error:
            raise _refused(job, Failed(Refusal.ANSWER, "", (str(error),))) from None
        _remove_unused(job, found, into)
        return found

    def _run(
        self, job: Job, line: bytes, files: list[int], on_progress: Callable[[Progress], None], deadline_s: float
    ) -> Done:
        deadline = time.monotonic() + deadline_s
        unit = f"nydus-agent-fetch-{os.getpid()}-{secrets.token_hex(4)}.service"
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                child = _started(job, self._argv(unit, deadline_s), theirs.fileno())
            patience = 0.0
            try:
                _hand_over(ours, line, files, min(deadline_s, _HAND_OVER_S))
                event = _hear(child, on_progress, deadline)
                # Whoever has answered, or has nothing more to say, ends by itself.
                patience = 0.0 if event in (_TOO_LATE, _NONSENSE) else _LAST_S
            finally:
                code, words = self._end(child, unit, patience)
        if isinstance(event, Done):
            return event
        if event is None:
            event = Failed(Refusal.DIED, "", (f"exit status {code}", *map(fetching.harmless, words)))
        raise _refused(job, event)

    def _argv(self, unit: str, deadline_s: float) -> list[str]:
        modules = str(Path(sys.modules["agent"].__file__ or "").parent.parent)
        program = ["/usr/bin/python3", "-I", "-B", "-c", _START.format(modules)]
        if self._booted:
            return sandbox.transient(unit, deadline_s + _END_S, _name_servers(), program)
        return sandbox.bare(program)

    def _end(self, child: Feed, unit: str, patience: float) -> tuple[int | None, list[str]]:
        """(exit code, last words). The child's process is gone when this returns: it has ended, or it is killed."""
        code = child.wait(patience)
        if code is None and self._booted:
            # The process is systemd's child; ours is only the one who waits for it.
            for verb in (["kill", "--signal=KILL"], ["stop"]):
                with contextlib.suppress(ProcessError):
                    ChildProcesses().run(["systemctl", *verb, unit], deadline_s=_END_S, ok=range(256))
            code = child.wait(_LAST_S)
        words = child.complaint().splitlines()[-4:]
        child.end()
        return code, words


def _started(job: Job, argv: list[str], stdin: int) -> Feed:
    try:
        return Feed(argv, stdin)
    except ProcessError as error:
        raise _refused(job, Failed(Refusal.START, "", (error.cause, *error.seen))) from None


def _hand_over(channel: socket.socket, line: bytes, files: list[int], seconds: float) -> None:
    """Whoever does not take it has ended, and says why; or is heard no more, and the deadline ends that."""
    channel.settimeout(seconds)
    with contextlib.suppress(OSError):
        sent = socket.send_fds(channel, [line], files)
        channel.sendall(line[sent:])


def _hear(child: Feed, on_progress: Callable[[Progress], None], deadline: float) -> Done | Failed | None:
    """The child's last event; None: it ended without one."""
    heard = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child], [], [], left)[0]:
            return _TOO_LATE
        piece = child.read(1 << 16)
        if piece == b"":
            return None
        heard += piece if piece is not None else b""
        *lines, rest = heard.split(b"\n")
        heard = bytearray(rest)
        if len(heard) > fetching.LINE_CAP:
            return _NONSENSE
        for line in lines:
            try:
                event = fetching.decode_event(bytes(line))
            except ValueError:
                return _NONSENSE
            if not isinstance(event, Progress):
                return event
            on_progress(event)


def _refused(job: Job, failed: Failed) -> ArtifactError:
    """The error for the operator; the words are ours."""
    refusal, seen = failed.refusal, list(failed.seen)
    about = next((str(one) for one in job.artifacts if one.name == failed.artifact), "what was asked for")
    for other in job.others:
        if refusal is Refusal.DIGEST and f"sha256 {other.sha256}" in seen:
            refusal, seen = Refusal.OTHER_ARTIFACT, [f"it is {other}", *seen]
        elif refusal is Refusal.LENGTH_SAID and any(piece.startswith(f"{other.size} bytes") for piece in seen):
            seen.append(f"{other} is as long")
    reason = REASONS[refusal]
    return ArtifactError(reason.code, f"{about} was not taken", cause=reason.cause, seen=tuple(seen))


def _inputs(job: Job, begun: str, files: contextlib.ExitStack) -> tuple[Local, list[int]]:
    """The archives on this node, or what is there of them, opened. Raises ArtifactError."""
    place = job.source.place
    if job.source.kind is SourceKind.BUNDLE:
        bundle = BundleFiles("/").read(place)
        file = _opened(job, place, files)
        return Local(tuple((bundle.member(one).offset, one.size) for one in job.artifacts)), [file] * len(job.artifacts)
    if job.source.kind is not SourceKind.DIRECTORY:
        return _begun(job, begun, files) if begun and not job.trust_release_checksum else (Local(), [])
    found = [_opened(job, f"{place}/{one.archive}", files, one) for one in job.artifacts]
    checksums: list[str] = []
    for one in job.artifacts if job.trust_release_checksum else ():
        beside = _opened(job, f"{place}/{one.archive}{fetching.CHECKSUM_SUFFIX}", files, one)
        checksums.append(os.pread(beside, _CHECKSUM_CAP, 0).decode(errors="backslashreplace"))
    return Local(tuple((0, os.fstat(file).st_size) for file in found), tuple(checksums)), found


def _begun(job: Job, directory: str, files: contextlib.ExitStack) -> tuple[Local, list[int]]:
    """What earlier runs have left of these archives; of others it is of no use any more. Raises ArtifactError."""
    found: list[int] = []
    try:
        for name in set(os.listdir(directory)) - {one.sha256 for one in job.artifacts}:
            os.unlink(f"{directory}/{name}")
        for one in job.artifacts:
            path = f"{directory}/{one.sha256}"
            found.append(os.open(path, _BEGUN, 0o600))
            files.callback(_close_begun, found[-1], path)
            if os.fstat(found[-1]).st_size > one.size:
                os.ftruncate(found[-1], 0)
    except OSError as error:
        raise _refused(job, Failed(Refusal.DISK, "", (f"{error.filename}: {error.strerror}",))) from None
    return Local(begun=tuple(os.fstat(file).st_size for file in found)), found


def _close_begun(file: int, path: str) -> None:
    """Of what nothing has come nothing is left."""
    if os.fstat(file).st_size == 0:
        os.unlink(path)
    os.close(file)


def _opened(job: Job, path: str, files: contextlib.ExitStack, artifact: Artifact | None = None) -> int:
    """A regular file. Raises ArtifactError."""
    about = artifact.name if artifact is not None else ""
    try:
        file = os.open(path, READ)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise _refused(job, Failed(Refusal.NO_FILE, about, (f"{path}: {why}",))) from None
    files.callback(os.close, file)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise _refused(job, Failed(Refusal.NO_FILE, about, (f"{path}: it is not a regular file",)))
    return file


def _outputs(job: Job, into: str, files: contextlib.ExitStack) -> list[int]:
    """The files that the child may write, made anew. Raises ArtifactError."""
    found: list[int] = []
    try:
        for artifact in job.artifacts:
            os.mkdir(f"{into}/{artifact.name}", 0o755)
        for artifact_name, name in fetching.outputs(job):
            found.append(os.open(_path(job, into, artifact_name, name), NEW, 0o600))
            files.callback(os.close, found[-1])
    except OSError as error:
        raise _refused(job, Failed(Refusal.DISK, "", (f"{error.filename}: {error.strerror}",))) from None
    return found


def _path(job: Job, into: str, artifact: ArtifactName, name: str) -> str:
    is_archive = any(one.name is artifact and one.archive == name for one in job.artifacts)
    return f"{into}/{name}" if is_archive else f"{into}/{artifact}/{name}"


def _remove_unused(job: Job, found: tuple[Artifact, ...], into: str) -> None:
    """Files for programs that are in no archive; all of them where the archives are what is wanted."""
    for artifact in found:
        kept = set() if job.archives_only else {program.name for program in artifact.programs}
        for name in set(fetching.wanted(job, artifact)) - kept:
            os.unlink(f"{into}/{artifact.name}/{name}")
        if job.archives_only:
            os.rmdir(f"{into}/{artifact.name}")


def _name_servers() -> tuple[str, ...]:
    """The servers that names are asked from (resolv.conf(5))."""
    try:
        lines = Path(_RESOLV_CONF).read_text(errors="replace")[:65536].splitlines()
    except OSError:
        return ()
    words = [line.split() for line in lines]
    return tuple(word[1] for word in words if len(word) > 1 and word[0] == "nameserver")
