"""The journal messages of the daemon. Each has a fixed id (systemd.journal-fields(7), MESSAGE_ID), to filter
by and to explain in the message catalogue (packaging/nydus-agent.catalog, `journalctl -x`); ids never change
their meaning.
"""

from __future__ import annotations

import enum


class Message(enum.StrEnum):
    """What a log line is about."""

    STARTED = "e8bfcd25c10b461286e39ab181b0c06d"
    STOPPED = "e4376d9562c249a58cd140159bab823f"
    HEALTH = "81a3e52d667d4764960142f6be812160"
    ROUTE = "3ab91ffccd49498bb4c75333da43a3b8"
    MODE = "48eb2bd9f6a34f2eac4c49ff486f66fd"
    PIN = "20ec1baa112a42f9ad07144fdee8d6be"
    DRILL = "36aeb410206e4e5b80422fdbba0133e0"
    BENCH = "5d0f0a5a3b7e4a0f9b1b6f0c2a7d9e34"
    CONDITION = "a6480e2258394bc499763a66d2a2a8a8"
    RELOADED = "8a5af2b6adab49fcbda4df4af9e2d9b0"
    INTERNAL = "564ce355383c49e5b54126130ba61285"
    DRIFT = "614568b110eb437b91f812b9a9855dd1"
    SYMPTOM = "12e0fa1e634a4031a15d867eb8d2ad3f"
