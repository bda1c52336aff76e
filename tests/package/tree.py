"""Prints every file of the root it runs in: path, kind, mode, owner, content. For two pictures that are
compared.

Runs in the root under test, with nothing but Python.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys

_NOT_OF_THE_DISK = ("/proc", "/sys", "/dev", "/run", "/tmp", "/src")
# dpkg's own memory of what it did, and the copies of /etc/passwd and its like that are kept on each change.
_OF_OTHERS = (
    "/var/lib/dpkg/",
    "/var/log/",
    "/var/cache/",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
)


def main() -> int:
    for directory, subdirectories, names in os.walk("/"):
        subdirectories[:] = sorted(
            name for name in subdirectories if os.path.join(directory, name) not in _NOT_OF_THE_DISK
        )
        for name in sorted([*subdirectories, *names]):
            path = os.path.join(directory, name)
            if not path.startswith(_OF_OTHERS):
                print(path, _told(path))
    return 0


def _told(path: str) -> str:
    status = os.lstat(path)
    told = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{told} -> {os.readlink(path)}"
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return f"{told} {hashlib.sha256(file.read()).hexdigest()[:16]}"
    return told


if __name__ == "__main__":
    sys.exit(main())
