"""The process's beginning and end."""

from __future__ import annotations

import socket
import sys

from agent.artifacts.child import channel, fetch
from agent.artifacts.fetching import Done, Failed


def main() -> int:
    """Do the job that comes by standard input. 0: done; 1: refused, with the reason; else the process itself failed."""
    root = socket.socket(fileno=0)
    job, local, files = channel.receive(root)
    channel.end_with(root)
    teller = channel.Teller(sys.stdout.fileno())
    try:
        found = fetch.run(job, local, files, teller)
    except fetch.FailedError as failed:
        teller.tell(Failed(failed.error.refusal, failed.artifact, failed.error.seen))
        return 1
    teller.tell(Done(found))
    return 0
