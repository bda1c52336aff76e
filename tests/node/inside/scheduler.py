"""The scheduler that a real dfdaemon needs to start: healthy, accepts hosts, schedules nothing.

dfdaemon looks for a scheduler whose gRPC health is SERVING and announces its host there before it opens a
port. It asks for peers too; the answer here is UNIMPLEMENTED, and dfdaemon then downloads from the origin by
itself. Needs dragonfly-api and grpcio-health-checking beside Debian's grpcio: see recipes/scheduler.sh.
"""

from __future__ import annotations

import argparse
import threading
from concurrent import futures
from typing import Any

import grpc
from dragonfly_api import scheduler_pb2_grpc  # type: ignore[import-not-found]  # on the node only
from google.protobuf import empty_pb2

# On the node only.
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-not-found]


class Scheduler(scheduler_pb2_grpc.SchedulerServicer):  # type: ignore[misc]  # the base comes without types
    """Only what a dfdaemon without peers cannot do without; the base answers UNIMPLEMENTED to the rest."""

    # The name is the protocol's.
    def AnnounceHost(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()

    def DeleteHost(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8002")
    options = parser.parse_args()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    scheduler_pb2_grpc.add_SchedulerServicer_to_server(Scheduler(), server)
    state = health.HealthServicer()
    for service in ("", "scheduler.v2.Scheduler"):
        state.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    server.add_insecure_port(options.listen)
    server.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
