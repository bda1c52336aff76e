"""dfdaemon's own store over gRPC on its unix socket (dragonflyoss/client, grpc/dfdaemon_download.rs)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from agent._pb import dfdaemon_pb2, dfdaemon_pb2_grpc
from agent.errors import HttpError
from agent.ports_bench import PeerTask

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment has nothing to do with a unix socket
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),  # a store of many tasks, each with its headers
)


class DfdaemonStore:
    """DeleteLocalTask needs no scheduler, and leaves other peers alone; dfdaemon has it since 1.5."""

    def tasks(self, socket: str, *, deadline_s: float) -> tuple[PeerTask, ...]:
        """See ports_bench.PeerStore."""
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
        """See ports_bench.PeerStore.

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
