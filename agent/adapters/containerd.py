"""containerd and the snapshotter's own socket over gRPC. Stubs do not leave this module.

A channel per client object; every call has a deadline; status codes become errors in one place (`_error`). Reads may be
repeated by callers, Prepare is not.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Generator, Mapping
from typing import Any

import grpc

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
)
from agent.node.facts import PluginFact, RunningContainerd, Version
from agent.ports import ImageFsInfo, ImageRecord

PROBE_NAMESPACE = "nydus-agent-probe"
"""The namespace of `prepare_and_remove`: ours alone, so it may be deleted even where a crash left it behind."""

_CLEANUP_S = 2.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment has nothing to do with a unix socket
    ("grpc.use_local_subchannel_pool", 1),  # no connection state shared with other channels of this process
    ("grpc.max_receive_message_length", 16 << 20),  # as containerd's own clients
    # grpc-core waits 1 s, then up to 2 min, before it tries a socket again: too long to await a restart.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class ContainerdClient:
    """containerd on the unix socket `address`; nothing is opened before the first call."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: Any = None

    def server(self, *, deadline_s: float) -> RunningContainerd:
        """See ports.Containerd. `pid` is 0 before containerd 1.7.0, which does not tell it."""
        budget = _Budget(self._address, deadline_s)
        version = budget.call(
            "Version", version_pb2_grpc.VersionStub(self._open()).Version, version_pb2.VersionRequest()
        )
        introspection = introspection_pb2_grpc.IntrospectionStub(self._open())
        server = budget.call("Server", introspection.Server, introspection_pb2.ServerRequest())
        return RunningContainerd(
            version=_version(version.version),
            version_text=version.version,
            pid=server.pid,
            plugins=self._plugins(budget),
        )

    def plugins(self, *, deadline_s: float) -> tuple[PluginFact, ...]:
        """See ports.Containerd. Said when containerd started: a dead proxy plugin looks like a living one."""
        return self._plugins(_Budget(self._address, deadline_s))

    def image_fs_info(self, *, deadline_s: float) -> ImageFsInfo:
        """See ports.Containerd."""
        service = cri_pb2_grpc.ImageServiceStub(self._open())
        answer = _Budget(self._address, deadline_s).call(
            "ImageFsInfo", service.ImageFsInfo, cri_pb2.ImageFsInfoRequest()
        )
        return ImageFsInfo(tuple(usage.fs_id.mountpoint for usage in answer.image_filesystems))

    def cri_status(self, *, deadline_s: float) -> Mapping[str, str]:
        """See ports.Containerd. The registries' credentials that "config" may hold are left out."""
        service = cri_pb2_grpc.RuntimeServiceStub(self._open())
        answer = _Budget(self._address, deadline_s).call("Status", service.Status, cri_pb2.StatusRequest(verbose=True))
        conditions = {entry.type: str(entry.status).lower() for entry in answer.status.conditions}
        info = dict(answer.info)
        if "config" in info:
            info["config"] = _without_credentials(info["config"])
        return {**info, **conditions}

    def prepare_and_remove(self, snapshotter: str, namespace: str, key: str, *, deadline_s: float) -> None:
        """See ports.Containerd. Only Prepare reaches a proxy snapshotter: List and Stat are answered from metadata.

        The snapshot has no label, so containerd's garbage collection takes it where we die between the two calls;
        where it was faster than our Remove, that is no failure. The namespace is deleted where this call made it, or
        where it is `PROBE_NAMESPACE`; one that is not empty stays.
        """
        budget = _Budget(self._address, deadline_s)
        made = self._make_namespace(namespace, budget)
        try:
            self._prepare_and_remove(snapshotter, namespace, key, budget)
        finally:
            if made or namespace == PROBE_NAMESPACE:
                self._delete_namespace(namespace)

    def snapshot_keys(
        self, snapshotter: str, namespace: str, *, deadline_s: float
    ) -> tuple[tuple[str, Mapping[str, str]], ...]:
        """See ports.Containerd."""
        service = snapshots_pb2_grpc.SnapshotsStub(self._open())
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
        answers = _Budget(self._address, deadline_s).stream("List", service.List, request, namespace)
        return tuple(sorted(((info.name, dict(info.labels)) for answer in answers for info in answer.info), key=_first))

    def namespaces(self, *, deadline_s: float) -> tuple[str, ...]:
        """See ports.Containerd."""
        service = namespaces_pb2_grpc.NamespacesStub(self._open())
        answer = _Budget(self._address, deadline_s).call("List", service.List, namespaces_pb2.ListNamespacesRequest())
        return tuple(sorted(entry.name for entry in answer.namespaces))

    def images(self, namespace: str, *, deadline_s: float) -> tuple[ImageRecord, ...]:
        """See ports.Containerd."""
        service = images_pb2_grpc.ImagesStub(self._open())
        answer = _Budget(self._address, deadline_s).call(
            "List", service.List, images_pb2.ListImagesRequest(), namespace
        )
        records = (
            ImageRecord(image.name, image.target.digest, image.target.media_type, dict(image.labels))
            for image in answer.images
        )
        return tuple(sorted(records, key=lambda record: record.name))

    def content(self, namespace: str, digest: str, *, deadline_s: float, cap: int = 4 << 20) -> bytes:
        """See ports.Containerd."""
        service = content_pb2_grpc.ContentStub(self._open())
        request = content_pb2.ReadContentRequest(digest=digest)
        blob = b""
        with contextlib.closing(
            _Budget(self._address, deadline_s).stream("Read", service.Read, request, namespace)
        ) as answers:
            for answer in answers:
                blob += answer.data
                if len(blob) > cap:
                    raise ContainerdError("NNA0606", f"{digest} is too long", cause=f"more than {cap} bytes")
        return blob

    def close(self) -> None:
        """Close the channel; the next call opens a new one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open(self) -> Any:  # noqa: ANN401 - grpcio has no types
        if self._channel is None:
            self._channel = _channel(self._address)
        return self._channel

    def _plugins(self, budget: _Budget) -> tuple[PluginFact, ...]:
        service = introspection_pb2_grpc.IntrospectionStub(self._open())
        answer = budget.call("Plugins", service.Plugins, introspection_pb2.PluginsRequest())
        return tuple(
            PluginFact(plugin.type, plugin.id, tuple(sorted(plugin.exports.items())), _init_error(plugin))
            for plugin in answer.plugins
        )

    def _make_namespace(self, namespace: str, budget: _Budget) -> bool:
        service = namespaces_pb2_grpc.NamespacesStub(self._open())
        request = namespaces_pb2.CreateNamespaceRequest(namespace=namespaces_pb2.Namespace(name=namespace))
        try:
            budget.call("Create", service.Create, request)
        except _AlreadyExistsError:
            return False
        return True

    def _prepare_and_remove(self, snapshotter: str, namespace: str, key: str, budget: _Budget) -> None:
        service = snapshots_pb2_grpc.SnapshotsStub(self._open())
        prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key=key)
        remove = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
        try:
            budget.call("Prepare", service.Prepare, prepare, namespace)
        except ContainerdUnavailableError:
            # No answer does not mean that nothing was made.
            with contextlib.suppress(ContainerdError):
                _Budget(self._address, _CLEANUP_S).call("Remove", service.Remove, remove, namespace)
            raise
        with contextlib.suppress(ContainerdNotFoundError):
            budget.call("Remove", service.Remove, remove, namespace)

    def _delete_namespace(self, namespace: str) -> None:
        service = namespaces_pb2_grpc.NamespacesStub(self._open())
        with contextlib.suppress(ContainerdError):  # what failed before matters more; the next probe deletes it
            _Budget(self._address, _CLEANUP_S).call(
                "Delete", service.Delete, namespaces_pb2.DeleteNamespaceRequest(name=namespace)
            )


class SnapshotterClient:
    """The snapshotter's own socket; it serves the Snapshots service only, no health service."""

    def alive(self, address: str, *, deadline_s: float) -> None:
        """See ports.SnapshotterSocket."""
        request = snapshots_pb2.StatSnapshotRequest(key=f"nydus-agent-probe-{secrets.token_hex(8)}")
        with contextlib.closing(_channel(address)) as channel, contextlib.suppress(ContainerdNotFoundError):
            service = snapshots_pb2_grpc.SnapshotsStub(channel)
            _Budget(address, deadline_s).call("Stat", service.Stat, request, "default")


class _AlreadyExistsError(ContainerdError):
    """ALREADY_EXISTS; does not leave this module."""


def _channel(address: str) -> Any:  # noqa: ANN401 - grpcio has no types
    return grpc.insecure_channel(f"unix://{address}" if address.startswith("/") else address, options=_OPTIONS)


class _Budget:
    """One deadline over several calls to one socket."""

    def __init__(self, address: str, deadline_s: float) -> None:
        self._address = address
        self._deadline = time.monotonic() + deadline_s

    def call(self, method: str, call: Any, request: Any, namespace: str = "") -> Any:  # noqa: ANN401
        """One answer for one request. Raises ContainerdError."""
        try:
            return call(request, timeout=self._left(), metadata=_metadata(namespace))
        except grpc.RpcError as error:
            raise _error(self._address, method, error) from None

    def stream(self, method: str, call: Any, request: Any, namespace: str) -> Generator[Any, None, None]:  # noqa: ANN401
        """All answers of a streaming call; it is cancelled where the caller stops early."""
        answers = call(request, timeout=self._left(), metadata=_metadata(namespace))
        try:
            yield from answers
        except grpc.RpcError as error:
            raise _error(self._address, method, error) from None
        finally:
            answers.cancel()

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _metadata(namespace: str) -> tuple[tuple[str, str], ...]:
    return (("containerd-namespace", namespace),) if namespace else ()


def _error(address: str, method: str, error: Any) -> ContainerdError:  # noqa: ANN401 - RpcError is a Call as well
    code, details = error.code(), error.details() or ""
    what = f"{method} failed on {address}"
    seen = (f"{code.name} {details}"[:500],)
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return ContainerdUnavailableError("NNA0602", what, cause=details or "nobody answers", seen=seen)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ContainerdUnavailableError("NNA0602", what, cause="no answer in time", seen=seen)
        case grpc.StatusCode.NOT_FOUND:
            return ContainerdNotFoundError("NNA0603", what, cause=details, seen=seen)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return ContainerdInvalidError("NNA0604", what, cause=details, seen=seen)
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return ContainerdError("NNA0605", what, cause=details, seen=seen)
        case grpc.StatusCode.UNIMPLEMENTED:
            return ContainerdError("NNA0607", what, cause=details or "the service is not there", seen=seen)
        case grpc.StatusCode.ALREADY_EXISTS:
            return _AlreadyExistsError("NNA0601", what, cause=details, seen=seen)
        case _:
            return ContainerdError("NNA0601", what, cause=details or code.name, seen=seen)


def _version(text: str) -> Version:
    """(1, 7, 24) of "1.7.24~ds1" or "v1.7.24"; () where there is no number."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _without_credentials(config: str) -> str:
    """CRI's JSON configuration without registry.auths, .configs and .headers."""
    try:
        parsed = json.loads(config)
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
    return plugin.init_err.message or f"code {plugin.init_err.code}"


def _first(pair: tuple[str, Mapping[str, str]]) -> str:
    return pair[0]
