"""containerd and the snapshotter's own socket over gRPC. Stubs do not leave this module.

A channel per operation; every operation has one deadline; status codes become errors in one place (`_error`).
Nothing is retried here; callers may repeat reads, never Prepare.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc

from agent import paths
from agent._pb import (
    content_pb2,
    content_pb2_grpc,
    cri_pb2,
    cri_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    introspection_pb2,
    introspection_pb2_grpc,
    namespaces_pb2,
    namespaces_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
    version_pb2,
    version_pb2_grpc,
)
from agent.errors import (
    ContainerdError,
    ContainerdInvalidError,
    ContainerdNotFoundError,
    ContainerdUnavailableError,
    hide,
)
from agent.facts.node import PluginFact, RunningContainerd, Version
from agent.outside_json import json_value
from agent.ports import Credential, ImageFsInfo, ImageRecord

_PROBE_TRIES, _PROBE_STEP_S = 15, 0.01
"""How often a namespace may be deleted under a probe, by another one that ended just then, and the first
pause.
"""

_RUNTIME_HANDLER = "io.containerd.cri.runtime-handler"  # pkg/cri/annotations
_CLEANUP_S = 2.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment has nothing to do with a unix socket
    ("grpc.use_local_subchannel_pool", 1),  # no connection state shared with other channels of this process
    ("grpc.max_receive_message_length", 16 << 20),  # as containerd's own clients
)


class ContainerdClient:
    """containerd on the unix socket `address`.

    Each operation has a channel of its own. One that is kept gives stale answers just when it matters: after
    a restart it refuses calls until its back-off has passed, or sends them into the connection that has died.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def server(self, *, deadline_s: float) -> RunningContainerd:
        """See ports.Containerd. Debian's 1.6.20 does not tell its pid: the socket does."""
        with _session(self._address, deadline_s) as session:
            version = session.call(version_pb2_grpc.VersionStub, "Version", version_pb2.VersionRequest())
            server = session.call(
                introspection_pb2_grpc.IntrospectionStub, "Server", introspection_pb2.ServerRequest()
            )
            return RunningContainerd(
                _version(version.version), version.version, server.pid or session.peer, _plugins(session)
            )

    def plugins(self, *, deadline_s: float) -> tuple[PluginFact, ...]:
        """See ports.Containerd. Said when containerd started: a dead proxy plugin looks like a living one."""
        with _session(self._address, deadline_s) as session:
            return _plugins(session)

    def image_fs_info(self, *, deadline_s: float) -> ImageFsInfo:
        """See ports.Containerd."""
        with _session(self._address, deadline_s) as session:
            answer = session.call(cri_pb2_grpc.ImageServiceStub, "ImageFsInfo", cri_pb2.ImageFsInfoRequest())
        return ImageFsInfo(tuple(usage.fs_id.mountpoint for usage in answer.image_filesystems))

    def cri_status(self, *, deadline_s: float) -> Mapping[str, str]:
        """See ports.Containerd. The registries' credentials that "config" may hold are left out."""
        with _session(self._address, deadline_s) as session:
            answer = session.call(
                cri_pb2_grpc.RuntimeServiceStub, "Status", cri_pb2.StatusRequest(verbose=True)
            )
        conditions = {entry.type: str(entry.status).lower() for entry in answer.status.conditions}
        info = dict(answer.info)
        if "config" in info:
            info["config"] = _without_credentials(info["config"])
        return {**info, **conditions}

    def prepare_and_remove(self, snapshotter: str, namespace: str, key: str, *, deadline_s: float) -> None:
        """See ports.Containerd. Only Prepare reaches a proxy snapshotter: List and Stat are answered from
        metadata.

        The snapshot has no label, so containerd's garbage collection takes it where we die between the two
        calls; where it was faster than our Remove, that is no failure. The namespace is deleted where this
        call made it, or where it is `paths.PROBE_NAMESPACE`; one that is not empty stays. Two probes may meet
        (`doctor` and an inspection): where another one has deleted the namespace before our snapshot was in
        it, it is made again.
        """
        with _session(self._address, deadline_s) as session:
            made = _make_namespace(session, namespace)
            try:
                for tries in range(1, _PROBE_TRIES + 1):
                    try:
                        return _prepare_and_remove(session, snapshotter, namespace, key)
                    except ContainerdNotFoundError:
                        if tries == _PROBE_TRIES:
                            raise
                        time.sleep(tries * _PROBE_STEP_S)
                        made = _make_namespace(session, namespace) or made
            finally:
                if made or namespace == paths.PROBE_NAMESPACE:
                    self._delete_namespace(namespace)

    def snapshot_keys(
        self, snapshotter: str, namespace: str, *, deadline_s: float
    ) -> tuple[tuple[str, Mapping[str, str]], ...]:
        """See ports.Containerd."""
        found = [
            (info.name, dict(info.labels)) for info in self._snapshots(snapshotter, namespace, deadline_s)
        ]
        return tuple(sorted(found, key=lambda pair: pair[0]))

    def snapshot_parents(self, snapshotter: str, namespace: str, *, deadline_s: float) -> Mapping[str, str]:
        """See ports.Containerd."""
        return {info.name: info.parent for info in self._snapshots(snapshotter, namespace, deadline_s)}

    def _snapshots(self, snapshotter: str, namespace: str, deadline_s: float) -> list[Any]:
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
        with _session(self._address, deadline_s) as session:
            answers = session.stream(snapshots_pb2_grpc.SnapshotsStub, "List", request, namespace)
            return [info for answer in answers for info in answer.info]

    def namespaces(self, *, deadline_s: float) -> tuple[str, ...]:
        """See ports.Containerd."""
        with _session(self._address, deadline_s) as session:
            answer = session.call(
                namespaces_pb2_grpc.NamespacesStub, "List", namespaces_pb2.ListNamespacesRequest()
            )
        return tuple(sorted(entry.name for entry in answer.namespaces))

    def images(self, namespace: str, *, deadline_s: float) -> tuple[ImageRecord, ...]:
        """See ports.Containerd."""
        with _session(self._address, deadline_s) as session:
            answer = session.call(
                images_pb2_grpc.ImagesStub, "List", images_pb2.ListImagesRequest(), namespace
            )
        records = (
            ImageRecord(image.name, image.target.digest, image.target.media_type, dict(image.labels))
            for image in answer.images
        )
        return tuple(sorted(records, key=lambda record: record.name))

    def digests(self, namespace: str, *, deadline_s: float) -> frozenset[str]:
        """See ports.Containerd."""
        return self._listed(namespace, (), deadline_s)

    def unpacked(self, snapshotter: str, namespace: str, *, deadline_s: float) -> frozenset[str]:
        """See ports.Containerd. core/unpack sets the label at the end of an unpack."""
        labelled = f'labels."containerd.io/gc.ref.snapshot.{snapshotter}"'
        return self._listed(namespace, (labelled,), deadline_s)

    def _listed(self, namespace: str, filters: Sequence[str], deadline_s: float) -> frozenset[str]:
        request = content_pb2.ListContentRequest(filters=filters)
        with _session(self._address, deadline_s) as session:
            answers = session.stream(content_pb2_grpc.ContentStub, "List", request, namespace)
            return frozenset(info.digest for answer in answers for info in answer.info)

    def pull(
        self, name: str, runtime: str, *, credential: Credential | None = None, deadline_s: float
    ) -> None:
        """See ports.Containerd.

        A runtime's snapshotter is taken by the pod's annotation (containerd 1.7 and newer).
        """
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        if credential is not None and credential.reaches_nydusd:
            request.auth.username, request.auth.password = credential.username, credential.password.reveal()
        elif credential is not None and credential.identity_token:
            # Alone: beside a user's name CRI does not look at it (internal/cri/server, ParseAuth).
            request.auth.identity_token = credential.identity_token.reveal()
        if runtime:
            request.sandbox_config.annotations[_RUNTIME_HANDLER] = runtime
        with _session(self._address, deadline_s) as session:
            session.call(cri_pb2_grpc.ImageServiceStub, "PullImage", request)

    def content(self, namespace: str, digest: str, *, deadline_s: float, cap: int = 4 << 20) -> bytes:
        """See ports.Containerd."""
        blob = b""
        request = content_pb2.ReadContentRequest(digest=digest)
        with _session(self._address, deadline_s) as session:
            for answer in session.stream(content_pb2_grpc.ContentStub, "Read", request, namespace):
                blob += answer.data
                if len(blob) > cap:
                    raise ContainerdError("NNA0608", f"{digest} is too long", cause=f"more than {cap} bytes")
        return blob

    def _delete_namespace(self, namespace: str) -> None:
        request = namespaces_pb2.DeleteNamespaceRequest(name=namespace)
        # What failed before matters more; the next probe deletes it.
        with contextlib.suppress(ContainerdError), _session(self._address, _CLEANUP_S) as session:
            session.call(namespaces_pb2_grpc.NamespacesStub, "Delete", request, namespace)


class SnapshotterClient:
    """The snapshotter's own socket; it serves the Snapshots service only, no health service."""

    def alive(self, address: str, *, deadline_s: float) -> None:
        """See ports.SnapshotterSocket."""
        request = snapshots_pb2.StatSnapshotRequest(key=f"nydus-agent-probe-{secrets.token_hex(8)}")
        with contextlib.suppress(ContainerdNotFoundError), _session(address, deadline_s) as session:
            session.call(snapshots_pb2_grpc.SnapshotsStub, "Stat", request, "default")

    def holder(self, address: str, *, deadline_s: float) -> int:
        """See ports.SnapshotterSocket."""
        return _need_listener(address, deadline_s)


class _AlreadyExistsError(ContainerdError):
    """ALREADY_EXISTS; does not leave this module."""


@contextlib.contextmanager
def _session(address: str, deadline_s: float) -> Iterator[_Session]:
    """One operation: a channel to a unix socket, and one deadline over all its calls."""
    peer = _need_listener(address, deadline_s)
    channel = grpc.insecure_channel(f"unix://{address}", options=_OPTIONS)
    try:
        yield _Session(channel, address, time.monotonic() + deadline_s, peer)
    finally:
        channel.close()  # ends streams that were not read to their end


def _need_listener(address: str, deadline_s: float) -> int:
    """Ask the kernel first: it names the reason, and a channel that cannot connect lingers. Returns the
    process that listens (SO_PEERCRED, unix(7)), 0 where it is of another pid namespace.

    While grpc-core 1.51 winds one down, fork(2) in this process hangs in its pthread_atfork handler (children
    are spawned by vfork, which runs no handlers; see `process`).
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.settimeout(deadline_s)
            probe.connect(address)
            pid, _uid, _gid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return int(pid)
    except PermissionError:
        raise ContainerdError("NNA0601", f"may not connect to {address}", cause="permission denied") from None
    except OSError as error:
        cause = error.strerror or str(error)
        raise ContainerdUnavailableError("NNA0602", f"nobody answers on {address}", cause=cause) from None


class _Session:
    # No types.
    def __init__(self, channel: Any, address: str, deadline: float, peer: int) -> None:  # noqa: ANN401
        self._channel = channel
        self._deadline = deadline
        self.address = address
        self.peer = peer

    def call(self, stub: Any, method: str, request: Any, namespace: str = "") -> Any:  # noqa: ANN401
        """One answer for one request. Raises ContainerdError."""
        try:
            return getattr(stub(self._channel), method)(
                request, timeout=self._left(), metadata=_metadata(namespace)
            )
        except grpc.RpcError as error:
            raise _error(self.address, method, error) from None

    def stream(self, stub: Any, method: str, request: Any, namespace: str) -> Iterator[Any]:  # noqa: ANN401
        """All answers of a streaming call. Raises ContainerdError."""
        call = getattr(stub(self._channel), method)
        try:
            yield from call(request, timeout=self._left(), metadata=_metadata(namespace))
        except grpc.RpcError as error:
            raise _error(self.address, method, error) from None

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _plugins(session: _Session) -> tuple[PluginFact, ...]:
    answer = session.call(
        introspection_pb2_grpc.IntrospectionStub, "Plugins", introspection_pb2.PluginsRequest()
    )
    return tuple(
        PluginFact(plugin.type, plugin.id, tuple(sorted(plugin.exports.items())), _init_error(plugin))
        for plugin in answer.plugins
    )


def _make_namespace(session: _Session, namespace: str) -> bool:
    request = namespaces_pb2.CreateNamespaceRequest(namespace=namespaces_pb2.Namespace(name=namespace))
    try:
        # containerd 1.6 publishes its event in the caller's namespace, and fails where there is none.
        session.call(namespaces_pb2_grpc.NamespacesStub, "Create", request, namespace)
    except _AlreadyExistsError:
        return False
    return True


def _prepare_and_remove(session: _Session, snapshotter: str, namespace: str, key: str) -> None:
    stub = snapshots_pb2_grpc.SnapshotsStub
    remove = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
    try:
        session.call(
            stub, "Prepare", snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key=key), namespace
        )
    except ContainerdUnavailableError:
        # No answer does not mean that nothing was made.
        with contextlib.suppress(ContainerdError), _session(session.address, _CLEANUP_S) as later:
            later.call(stub, "Remove", remove, namespace)
        raise
    with contextlib.suppress(ContainerdNotFoundError):
        session.call(stub, "Remove", remove, namespace)


def _metadata(namespace: str) -> tuple[tuple[str, str], ...]:
    return (("containerd-namespace", namespace),) if namespace else ()


_KINDS: Mapping[grpc.StatusCode, tuple[type[ContainerdError], str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (ContainerdUnavailableError, "NNA0602", "nobody answers"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (ContainerdUnavailableError, "NNA0602", ""),
    grpc.StatusCode.NOT_FOUND: (ContainerdNotFoundError, "NNA0601", ""),
    grpc.StatusCode.INVALID_ARGUMENT: (ContainerdInvalidError, "NNA0601", ""),
    grpc.StatusCode.UNIMPLEMENTED: (ContainerdError, "NNA0607", "the service is not there"),
    grpc.StatusCode.ALREADY_EXISTS: (_AlreadyExistsError, "NNA0601", ""),
}
"""Status -> class and code of the error, and its cause where the server says none."""


# RpcError is a Call as well.
def _error(address: str, method: str, error: Any) -> ContainerdError:  # noqa: ANN401
    code, details = error.code(), hide((error.details() or "")[:4000])
    kind, number, silent = _KINDS.get(code, (ContainerdError, "NNA0601", code.name))
    cause = "no answer in time" if code is grpc.StatusCode.DEADLINE_EXCEEDED else details or silent
    return kind(number, f"{method} failed on {address}", cause=cause, seen=(f"{code.name} {details}"[:500],))


def _version(text: str) -> Version:
    """(1, 7, 24) of "1.7.24~ds1" or "v1.7.24"; () where there is no number."""
    match = re.search(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,9}", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _without_credentials(config: str) -> str:
    """CRI's JSON configuration without registry.auths, .configs and .headers."""
    try:
        parsed = json_value(config)
    except ValueError:
        return ""
    registry = parsed.get("registry") if isinstance(parsed, dict) else None
    if isinstance(registry, dict):
        for key in ("auths", "configs", "headers"):
            registry.pop(key, None)
    return json.dumps(parsed)


def _init_error(plugin: Any) -> str:  # noqa: ANN401 - generated messages have no types
    if not plugin.HasField("init_err"):
        return ""
    return hide(plugin.init_err.message[:4000]) or f"code {plugin.init_err.code}"
