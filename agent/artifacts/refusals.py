"""Why a download is refused: one reason, one sentence, and one code of the catalogue for each. PURE.

The download child (`agent.artifacts.child`) names a reason and shows what it saw; the words are root's, from here, so
that a child which was taken over cannot write sentences to an operator's terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Refusal(enum.StrEnum):
    """What was wrong, in one word."""

    # The way there.
    UNREACHABLE = "unreachable"
    TLS = "tls"
    SILENT = "silent"
    SLOW = "slow"
    CUT = "cut"
    NOT_HTTP = "not-http"
    HEADERS = "headers"
    NOT_FOUND = "not-found"
    NOT_ALLOWED = "not-allowed"
    TOO_MANY_REQUESTS = "too-many-requests"
    SERVER_ERROR = "server-error"
    STATUS = "status"
    RANGE = "range"
    REDIRECT_LOOP = "redirect-loop"
    REDIRECT_COUNT = "redirect-count"
    REDIRECT_SCHEME = "redirect-scheme"
    REDIRECT_DOWNGRADE = "redirect-downgrade"
    REDIRECT_NOWHERE = "redirect-nowhere"
    ADDRESS_LINK_LOCAL = "address-link-local"
    ADDRESS_METADATA = "address-metadata"
    ADDRESS_LOOPBACK = "address-loopback"
    ADDRESS_SPECIAL = "address-special"
    NO_FILE = "no-file"
    # Another file than the one that was asked for.
    LENGTH_SAID = "length-said"
    TOO_LONG = "too-long"
    TOO_SHORT = "too-short"
    TOO_LARGE = "too-large"
    DIGEST = "digest"
    OTHER_ARTIFACT = "other-artifact"
    PAGE = "page"
    CHECKSUM_FORM = "checksum-form"
    CHECKSUM_LENGTH = "checksum-length"
    CHECKSUM_NAME = "checksum-name"
    CHECKSUM_DIGEST = "checksum-digest"
    # gzip
    NOT_GZIP = "not-gzip"
    GZIP_DAMAGED = "gzip-damaged"
    GZIP_CHECK = "gzip-check"
    GZIP_CUT = "gzip-cut"
    GZIP_SECOND = "gzip-second"
    GZIP_TRAILING = "gzip-trailing"
    GZIP_RATIO = "gzip-ratio"
    GZIP_SIZE = "gzip-size"
    # tar
    NOT_TAR = "not-tar"
    TAR_HEADER = "tar-header"
    TAR_CUT = "tar-cut"
    TAR_TRAILING = "tar-trailing"
    ABSOLUTE = "absolute"
    PARENT = "parent"
    NAME = "name"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"
    FIFO = "fifo"
    SPARSE = "sparse"
    PAX_PATH = "pax-path"
    PAX_LINK = "pax-link"
    PAX_SIZE = "pax-size"
    PAX_FORM = "pax-form"
    LONG_NAME = "long-name"
    LONG_LINK = "long-link"
    KIND = "kind"
    SIZE_NUMBER = "size-number"
    MEMBER_SIZE = "member-size"
    MEMBERS = "members"
    SETUID = "setuid"
    SETGID = "setgid"
    DUPLICATE = "duplicate"
    MISSING = "missing"
    NO_PROGRAM = "no-program"
    # The programs themselves.
    PROGRAM_SIZE = "program-size"
    PROGRAM_DIGEST = "program-digest"
    EMPTY = "empty"
    SCRIPT = "script"
    NOT_ELF = "not-elf"
    ELF_32 = "elf-32"
    ELF_BIG_ENDIAN = "elf-big-endian"
    ELF_MACHINE = "elf-machine"
    ELF_KIND = "elf-kind"
    # The child.
    DISK = "disk"
    DEADLINE = "deadline"
    DIED = "died"
    ANSWER = "answer"
    START = "start"


@dataclass(frozen=True, slots=True)
class Reason:
    """What is told of a refusal."""

    code: str
    cause: str


def _all(code: str, causes: Mapping[Refusal, str]) -> dict[Refusal, Reason]:
    return {refusal: Reason(code, cause) for refusal, cause in causes.items()}


REASONS: Mapping[Refusal, Reason] = {
    **_all("NNA1111", {
        Refusal.UNREACHABLE: "the server cannot be reached",
        Refusal.TLS: "the server's certificate does not verify, or it does not speak TLS",
        Refusal.CUT: "the connection ended before the file did, and again after each new try",
        Refusal.NOT_HTTP: "what answers does not speak HTTP",
        Refusal.HEADERS: "the answer's headers do not end",
    }),
    **_all("NNA1112", {
        Refusal.NOT_FOUND: "the server has no such file",
        Refusal.NOT_ALLOWED: "the server wants other credentials",
        Refusal.TOO_MANY_REQUESTS: "the server refuses more requests for now",
        Refusal.SERVER_ERROR: "the server failed",
        Refusal.STATUS: "the server gave an answer that is no file",
        Refusal.RANGE: "the server sent another part of the file than it was asked for",
        Refusal.PAGE: "it is a web page, not an archive",
    }),
    **_all("NNA1113", {
        Refusal.REDIRECT_LOOP: "redirects lead in a circle",
        Refusal.REDIRECT_COUNT: "too many redirects",
        Refusal.REDIRECT_SCHEME: "a redirect leads away from http and https",
        Refusal.REDIRECT_DOWNGRADE: "a redirect leads from https to http",
        Refusal.REDIRECT_NOWHERE: "a redirect names no address",
        Refusal.ADDRESS_LINK_LOCAL: "the address is link-local: it is of this node's own network only",
        Refusal.ADDRESS_METADATA: "the address is that of a cloud's metadata",
        Refusal.ADDRESS_LOOPBACK: "the address is this machine's own",
        Refusal.ADDRESS_SPECIAL: "the address is no single machine's",
    }),
    **_all("NNA1114", {
        Refusal.LENGTH_SAID: "the server announces another length than the lock names",
        Refusal.TOO_LONG: "there are more bytes than the lock names",
        Refusal.TOO_SHORT: "there are fewer bytes than the lock names",
        Refusal.TOO_LARGE: "it is larger than any release",
        Refusal.PROGRAM_SIZE: "a program has another size than the lock names",
    }),
    **_all("NNA1115", {
        Refusal.DIGEST: "its sha256 is not the one that the lock names",
        Refusal.OTHER_ARTIFACT: "it is the archive of something else that the lock names",
        Refusal.PROGRAM_DIGEST: "a program's sha256 is not the one that the lock names",
    }),
    **_all("NNA1116", {
        Refusal.SILENT: "the server went silent",
        Refusal.SLOW: "the server sends too slowly to ever end",
        Refusal.DEADLINE: "it was not done in its time and was ended",
    }),
    **_all("NNA1117", {
        Refusal.NOT_GZIP: "it is not compressed with gzip",
        Refusal.GZIP_DAMAGED: "its compressed data is damaged",
        Refusal.GZIP_CHECK: "its checksum or length within gzip is wrong",
        Refusal.GZIP_CUT: "its compressed data ends too early",
        Refusal.GZIP_SECOND: "a second gzip member follows the first",
        Refusal.GZIP_TRAILING: "other data follows the compressed data",
        Refusal.GZIP_RATIO: "it unpacks to far more than programs do",
        Refusal.GZIP_SIZE: "it unpacks to more than may be unpacked",
        Refusal.NOT_TAR: "what is compressed is not a tar archive",
        Refusal.TAR_HEADER: "the checksum of a member's header is wrong",
        Refusal.TAR_CUT: "the tar archive ends too early",
        Refusal.TAR_TRAILING: "other data follows the tar archive",
        Refusal.SIZE_NUMBER: "a member's size is not a plain octal number",
        Refusal.MEMBER_SIZE: "a member is larger than may be unpacked",
        Refusal.MEMBERS: "there are too many members",
    }),
    **_all("NNA1118", {
        Refusal.ABSOLUTE: "a member has an absolute path",
        Refusal.PARENT: "a member's path leads upwards (..)",
        Refusal.NAME: "a member's name is empty or holds unprintable characters",
        Refusal.SYMLINK: "a member is a symbolic link",
        Refusal.HARDLINK: "a member is a hard link",
        Refusal.CHARACTER_DEVICE: "a member is a character device",
        Refusal.BLOCK_DEVICE: "a member is a block device",
        Refusal.FIFO: "a member is a fifo",
        Refusal.SPARSE: "a member is a sparse file",
        Refusal.PAX_PATH: "an extended header gives a member another path",
        Refusal.PAX_LINK: "an extended header gives a member a link's target",
        Refusal.PAX_SIZE: "an extended header gives a member another size",
        Refusal.PAX_FORM: "an extended header is too long or malformed",
        Refusal.LONG_NAME: "a GNU header gives a member another, long name",
        Refusal.LONG_LINK: "a GNU header gives a member a long link's target",
        Refusal.KIND: "a member is of a kind that is not known",
        Refusal.SETUID: "a member would run with its owner's rights (setuid)",
        Refusal.SETGID: "a member would run with its group's rights (setgid)",
        Refusal.DUPLICATE: "two members have the name of one program",
    }),
    **_all("NNA1119", {
        Refusal.MISSING: "a program that the lock names is not in it",
        Refusal.NO_PROGRAM: "the program that it is named after is not in it",
    }),
    **_all("NNA1120", {
        Refusal.EMPTY: "a program is an empty file",
        Refusal.SCRIPT: "a program is a script",
        Refusal.NOT_ELF: "a program is no ELF file",
        Refusal.ELF_32: "a program is built for 32 bits",
        Refusal.ELF_BIG_ENDIAN: "a program is built for a big-endian machine",
        Refusal.ELF_MACHINE: "a program is built for another machine",
        Refusal.ELF_KIND: "a program is an ELF file that cannot be run",
    }),
    **_all("NNA1121", {
        Refusal.DISK: "there is no room for the programs, or they cannot be written",
        Refusal.DIED: "the download's own process ended without an answer",
        Refusal.ANSWER: "the download's own process gave an answer that makes no sense",
        Refusal.START: "the download's own process could not be started",
    }),
    **_all("NNA1122", {
        Refusal.NO_FILE: "there is no such file, or it is none",
    }),
    **_all("NNA1124", {
        Refusal.CHECKSUM_FORM: "the release's .sha256sum is not in sha256sum's format",
        Refusal.CHECKSUM_LENGTH: "the release's .sha256sum is longer than such a file is",
        Refusal.CHECKSUM_NAME: "the release's .sha256sum is that of another file",
        Refusal.CHECKSUM_DIGEST: "its sha256 is not the one in the release's .sha256sum",
    }),
}  # fmt: skip
"""Each cause is another sentence: a test of every hostile server asks for its own."""

ON_THE_WAY = frozenset({"NNA1111", "NNA1112", "NNA1116"})
"""Codes of what says nothing against the bytes that have come: another try may go on behind them."""
