"""A stand-in for Dragonfly's manager, as far as Dragonfly's own scheduler needs one: it is registered, kept
alive and told of a cluster with the scheduler's own limits, without seed peers and applications.

The real manager needs a database and redis, and gives a scheduler no more than that where nobody has set
anything. Needs dragonfly-api beside Debian's grpcio: see recipes/scheduler.sh.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from dragonfly_api import manager_pb2, manager_pb2_grpc  # type: ignore[import-not-found]  # on the node only
from google.protobuf import empty_pb2

CLUSTER = 1
"""The number of the one cluster, which is also the one that a scheduler asks for by default."""


class Manager(manager_pb2_grpc.ManagerServicer):  # type: ignore[misc]  # the base comes without types
    """What scheduler/announcer and scheduler/config/dynconfig.go call; the base answers UNIMPLEMENTED to the
    rest.
    """

    def UpdateScheduler(self, request: Any, context: Any) -> Any:  # noqa: N802  # the name is the protocol's
        return _scheduler(request.hostname, request.ip, request.port)

    def GetScheduler(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _scheduler(request.hostname, request.ip, 0)

    def ListApplications(self, request: Any, context: Any) -> Any:  # noqa: N802
        return manager_pb2.ListApplicationsResponse()

    def KeepAlive(self, request_iterator: Iterator[Any], context: Any) -> empty_pb2.Empty:  # noqa: N802
        for _ in request_iterator:
            pass
        return empty_pb2.Empty()


def _scheduler(hostname: str, address: str, port: int) -> Any:
    # "{}": every limit is the scheduler's own default.
    cluster = manager_pb2.SchedulerCluster(id=CLUSTER, name="test", config=b"{}", client_config=b"{}")
    return manager_pb2.Scheduler(
        id=1, hostname=hostname, ip=address, port=port, state="active", scheduler_cluster_id=CLUSTER,
        scheduler_cluster=cluster,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:65003")
    options = parser.parse_args()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    manager_pb2_grpc.add_ManagerServicer_to_server(Manager(), server)
    server.add_insecure_port(options.listen)
    server.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
