"""What a bench alone touches: caches, a hosts.toml for one pull, dfdaemon's store, a chart."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from agent._pb import dfdaemon_pb2, dfdaemon_pb2_grpc
from agent.bench.figures import Chart, Spread
from agent.errors import FileError, HttpError, ProcessError
from agent.ports import PeerTask
from agent.system import walk
from agent.system.process import ChildProcesses

_DROP = "/proc/sys/vm/drop_caches"
_INTERFACES = "/proc/self/net/dev"
_SYNC_S = 20.0
_BLOB = re.compile(r"[0-9a-f]{64}")


@contextmanager
def _told(what: str, place: str = "") -> Iterator[None]:
    """Raises FileError with these words where the kernel refuses something inside."""
    try:
        yield
    except OSError as error:
        cause = f"{place}: {error.strerror}" if place else error.strerror or ""
        raise FileError("NNA1701", what, cause=cause) from None


class NodeCaches:
    """The caches of this node. Only root may empty them."""

    def drop_pages(self) -> None:
        """See ports.Caches. What is dirty is written first, because only clean pages can be dropped
        (proc(5)): by a child, so that a disk that others keep busy does not hold us for ever.
        """
        late = ""
        try:
            ChildProcesses().run(["sync"], deadline_s=_SYNC_S)
        except ProcessError as error:
            late = error.cause
        with (
            _told("the page cache cannot be dropped", _DROP),
            walk.opened(_DROP, os.O_WRONLY | os.O_CLOEXEC) as descriptor,
        ):
            os.write(descriptor, b"3\n")
        if late:
            raise FileError("NNA1701", "what was dirty stayed in the page cache", cause=f"sync: {late}")

    def cached(self, directory: str) -> frozenset[str]:
        """See ports.Caches."""
        with _told(f"cannot list {directory}"), contextlib.suppress(FileNotFoundError):
            return frozenset(os.listdir(directory))
        return frozenset()

    def remove_blob(self, directory: str, blob: str) -> None:
        """See ports.Caches. Their names begin with the blob's (BLOB.blob.data, BLOB.blob.meta,
        BLOB.chunk_map); only regular files go.
        """
        if not _BLOB.fullmatch(blob):
            raise FileError("NNA1701", "no cache of a blob can be removed", cause=f"{blob!r} is no sha256")
        names = sorted(name for name in self.cached(directory) if name.startswith(blob))
        if not names:
            return
        with _told(f"cannot remove the cache of {blob}"), walk.directory(directory) as top:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    if stat.S_ISREG(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                        os.unlink(name, dir_fd=top)

    def room(self, directory: str) -> tuple[int, int]:
        """See ports.Caches."""
        while not os.path.lexists(directory):
            directory = os.path.dirname(directory)
        with _told(f"cannot tell the room below {directory}"):
            seen = os.statvfs(directory)
        return seen.f_bavail * seen.f_frsize, seen.f_blocks * seen.f_frsize

    def received(self) -> dict[str, int]:
        """See ports.Caches. (proc_pid_net(5), net/dev: the first figure of a line.)"""
        with open(_INTERFACES) as table:
            lines = [line.partition(":") for line in table.read().splitlines() if ":" in line]
        return {name.strip(): int(figures.split()[0]) for name, _, figures in lines if name.strip() != "lo"}


# the directory that containerd takes for a registry without one of its own (docs/hosts.md there)
_ANY = "_default"


class RunHosts:
    """The directory of this path. What it lies in must be root's."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def holding(self, content: bytes) -> Iterator[str]:
        """See ports.HostsRoom."""
        self.clear()
        try:
            with self._top("make") as (top, name):
                walk.make_directory(name, top, 0o700)
                with walk.directory(name, top) as room:
                    walk.make_directory(_ANY, room, 0o700)
                    with walk.directory(_ANY, room) as inner:
                        walk.write_new("hosts.toml", inner, content, 0o600)
            yield self._path
        finally:
            self.clear()

    def clear(self) -> None:
        """See ports.HostsRoom."""
        with self._top("remove") as (top, name):
            walk.remove_tree(name, top)

    @contextmanager
    def _top(self, doing: str) -> Iterator[tuple[int, str]]:
        """The directory that it lies in, and its name there."""
        try:
            with walk.directory(os.path.dirname(self._path)) as top:
                yield top, os.path.basename(self._path)
        except OSError as error:
            cause = error.strerror or str(error)
            raise FileError("NNA1701", f"cannot {doing} {self._path}", cause=cause) from None


_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment has nothing to do with a unix socket
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),  # a store of many tasks, each with its headers
)


class DfdaemonStore:
    """DeleteLocalTask needs no scheduler, and leaves other peers alone; dfdaemon has it since 1.5."""

    def tasks(self, socket: str, *, deadline_s: float) -> tuple[PeerTask, ...]:
        """See ports.PeerStore."""
        with _stub(socket, "ListLocalTasks") as stub:
            answer = stub.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest(), timeout=deadline_s)
        return tuple(
            PeerTask(
                task.task_id,
                task.content_length,
                task.HasField("finished_at"),
                tuple(task.response_header.values()),
            )
            for task in answer.tasks
        )

    def remove(self, socket: str, task: str, *, deadline_s: float) -> None:
        """See ports.PeerStore.

        An absent task is an internal error of dfdaemon that says "not found".
        """
        try:
            with _stub(socket, "DeleteLocalTask") as stub:
                stub.DeleteLocalTask(dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task), timeout=deadline_s)
        except HttpError as error:
            if "not found" not in error.cause:
                raise


@contextmanager
def _stub(socket: str, method: str) -> Iterator[Any]:
    channel = grpc.insecure_channel(f"unix://{socket}", options=_OPTIONS)
    try:
        yield dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel)
    except grpc.RpcError as error:
        cause = f"{error.code().name} {error.details() or ''}".strip()[:300]
        raise HttpError("NNA1701", f"{method} failed on {socket}", cause=cause) from None
    finally:
        channel.close()


_WIDTH = 0.8  # of a group, which is 1 wide
# one for each case
_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


class MatplotlibDrawing:
    """Without pyplot and without a display."""

    def missing(self) -> str:
        """See ports.Drawing."""
        return "" if importlib.util.find_spec("matplotlib") is not None else "python3-matplotlib"

    def draw(self, chart: Chart, path: str) -> None:
        """See ports.Drawing. matplotlib keeps its list of fonts in a directory that goes with the
        drawing.
        """
        with tempfile.TemporaryDirectory(prefix="nydus-agent-chart-") as scratch:
            os.environ.setdefault("MPLCONFIGDIR", scratch)
            from matplotlib import rcParams
            from matplotlib.figure import Figure

            rcParams["svg.fonttype"] = "none"  # text stays text: it can be searched, and the file is small
            figure = Figure(figsize=(4 + 3 * max(1, len(chart.groups)), 5), layout="constrained")
            axes = figure.add_subplot()
            axes.set_title(chart.title, fontsize="medium")
            axes.set_ylabel("seconds until ready")
            axes.set_xticks(range(len(chart.groups)), chart.groups)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
            for number, (case, bars) in enumerate(chart.bars.items()):
                _draw_case(axes, case.label, bars, number)
            # Below the bars: beside them it would cover one, whichever image comes last.
            axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncol=3)
            try:
                figure.savefig(path)
            except (OSError, ValueError) as error:
                raise FileError(
                    "NNA1002", f"the chart cannot be written to {path}", cause=str(error)
                ) from None


# Matplotlib has no types.
def _draw_case(axes: Any, label: str, bars: Sequence[Spread], number: int) -> None:  # noqa: ANN401
    """The bars of the case with this number, one in each group, and its entry in the legend."""
    width, colour = _WIDTH / len(_COLOURS), _COLOURS[number]
    name = label if any(bar.n for bar in bars) else f"{label} (not run)"
    axes.bar([0], [0], width, color=colour, label=name)  # the legend's entry, also where no bar is drawn
    for group, bar in enumerate(bars):
        at = group - _WIDTH / 2 + (number + 0.5) * width
        note = {"textcoords": "offset points", "ha": "center", "fontsize": "x-small"}
        if bar.n:
            spread = [[bar.p50 - bar.min], [bar.max - bar.p50]]
            axes.bar([at], [bar.p50], width, color=colour, yerr=spread, capsize=3)
            axes.annotate(f"{bar.p50:.2f}", (at, bar.max), xytext=(0, 3), **note)
        else:
            axes.annotate("not run", (at, 0), xytext=(0, 4), rotation=90, va="bottom", color="gray", **note)
