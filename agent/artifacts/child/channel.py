"""How this process hears from root and answers: a socket as standard input, a pipe as standard output."""

from __future__ import annotations

import os
import socket
import threading
import time

from agent.artifacts import fetching
from agent.artifacts.fetching import Event, Job, Local, Progress

_FILES_CAP = 200  # the kernel passes 253 at once
_EVERY_S = 0.1
_WINDOW_S = 2.0
_NOBODY_LISTENS = 3


def receive(channel: socket.socket) -> tuple[Job, Local, tuple[int, ...]]:
    """The job, and the files that come with it. Raises ValueError, EOFError."""
    line, files = bytearray(), list[int]()
    while not line.endswith(b"\n"):
        piece, passed, _, _ = socket.recv_fds(channel, 65536, _FILES_CAP)
        if not piece:
            raise EOFError
        files += passed
        line += piece
    job, local = fetching.decode_job(bytes(line))
    return job, local, tuple(files)


def end_with(channel: socket.socket) -> None:
    """End this process when root has gone: nobody would hear the answer."""

    def wait() -> None:
        while channel.recv(1):
            pass
        os._exit(_NOBODY_LISTENS)

    threading.Thread(target=wait, daemon=True).start()


class Teller:
    """Writes events. One that nobody hears ends the process."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._told = 0.0
        self._samples: list[tuple[float, int]] = []

    def progress(self, artifact: str, received: int, total: int, note: str) -> None:
        """Some of them are told."""
        now = time.monotonic()
        if now - self._told < _EVERY_S and received != total:
            return
        self._told = now
        self._samples = [(at, count) for at, count in self._samples if now - at < _WINDOW_S and count <= received]
        self._samples.append((now, received))
        since, before = self._samples[0]
        rate = (received - before) / (now - since) if now > since else 0.0
        self.tell(Progress(artifact, received, total, rate, note))

    def tell(self, event: Event) -> None:
        """One line."""
        rest = fetching.encode_event(event)
        try:
            while rest:
                rest = rest[os.write(self._output, rest) :]
        except BrokenPipeError:
            os._exit(_NOBODY_LISTENS)
