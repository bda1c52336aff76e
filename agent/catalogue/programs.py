"""Errors of the packages of programs: the lock (110x), the way to an archive and what came (111x, 112x)."""

from __future__ import annotations

from agent.errors import Entry, Exit

_RELOCK = "Make the lock anew where the release itself was checked: `nydus-agent programs lock`."

ENTRIES = (
    Entry("NNA1101", "lock file cannot be read", Exit.USAGE,
          "The file is not there, not readable, not a regular file, too long or not TOML.",
          "Look at the named file; `nydus-agent programs lock` makes one."),
    Entry("NNA1102", "lock file is wrong", Exit.USAGE,
          "It has unknown keys, missing or wrong values, or two entries for one release and architecture.",
          "Make it anew: `nydus-agent programs lock`; all problems are shown at once."),
    Entry("NNA1107", "release is not in the lock", Exit.USAGE,
          "The lock pins no release of this version for this architecture.",
          "Pin it: `nydus-agent programs lock`."),
    Entry("NNA1109", "version does not work", Exit.USAGE,
          "This version is known to fail here, or its archive has another form.",
          "Choose another version."),
    Entry("NNA1111", "source does not answer", Exit.FAILED,
          "The name has no address, the connection was refused or broke, TLS failed, or the download took "
          "too long.",
          "Look at the network, or name a nearer source: `--from URL` or a directory."),
    Entry("NNA1112", "source has no such archive", Exit.FAILED,
          "The server answered with an error, or the directory has no such file.",
          "Ask the named URL with `curl -fIL`; a mirror that wants a password takes it from ~/.netrc."),
    Entry("NNA1115", "archive is not what the lock pins", Exit.FAILED,
          "The archive, or a program in it, has another length or another digest. Nothing in the archive "
          "was read "
          "where its own digest is wrong.",
          "Do not use that source until it is known why. " + _RELOCK),
    Entry("NNA1117", "archive is not as it must be", Exit.FAILED,
          "It is damaged, lacks a program or has it twice, a program in it is a link or a device, its path "
          "leads out "
          "of the archive, it is too large, or it is for another architecture.",
          "Do not use that archive."),
    Entry("NNA1122", "source cannot be used", Exit.USAGE,
          "It is neither a URL of http or https, nor a directory that is there.",
          "Correct `--from`."),
    Entry("NNA1124", "release's checksum cannot be used", Exit.FAILED,
          "The .sha256sum beside the archive is missing, names another file or another digest, or the "
          "release has "
          "other bytes now than the lock has pinned before.",
          "Look at the release's page before you trust it again."),
    Entry("NNA1126", "package cannot be made", Exit.FAILED,
          "There is no dpkg-deb here, it failed, or the directory cannot be written.",
          "See the cause; run it where dpkg is installed and the disk has 300 MB free."),
)  # fmt: skip
