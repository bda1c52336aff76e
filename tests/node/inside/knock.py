"""Knocks at a TCP port again and again and writes down each time that it is let through: what a fence must
not do.

One JSON line a knock that was not refused, `{"at": monotonic seconds, "how": "connected" or "no answer"}`,
and one after each fifty, `{"knocks": how many so far}`. Run as root, as nydusd is; the agent's own user
passes any fence.
"""

from __future__ import annotations

import argparse
import json
import socket
import time

_PATIENCE_S = 0.25
_TELL_EVERY = 50


def knock(address: tuple[str, int]) -> str:
    """What became of one attempt to connect: refused, connected, or no answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.settimeout(_PATIENCE_S)
        try:
            made.connect(address)
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "no answer"
    return "connected"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4001)
    parser.add_argument("--pause-ms", type=int, default=10)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    knocks = 0
    with open(options.out, "w", buffering=1) as out:
        while True:
            at = time.monotonic()
            how = knock(("127.0.0.1", options.port))
            knocks += 1
            if how != "refused":
                out.write(json.dumps({"at": at, "how": how}) + "\n")
            if knocks % _TELL_EVERY == 0:
                out.write(json.dumps({"knocks": knocks}) + "\n")
            time.sleep(options.pause_ms / 1000)


if __name__ == "__main__":
    main()
