"""Archives that mean harm, although the lock names their very bytes (its author was deceived)."""

from __future__ import annotations

import os

from agent.artifacts.refusals import Refusal
from agent.node.facts import Arch
from tests.hostile.case import Case
from tests.hostile.stage import GOOD, IMAGE, NYDUSD, PROGRAMS, release
from tests.hostile.tars import archive, gz, header, member, pax
from tests.unit.artifacts import elf

_TAR = release()
_PROGRAM = member("nydus-static/nydusd", NYDUSD)
_REST = (_PROGRAM, member("nydus-static/nydus-image", IMAGE))


def _packed(name: str, refusal: Refusal, content: bytes, seen: str = "") -> Case:
    return Case(name, refusal, lambda scene: scene.lay(content), seen)


def _with(name: str, refusal: Refusal, *members: bytes, seen: str = "") -> Case:
    """A right archive with something before it."""
    return _packed(name, refusal, gz(archive(*members, *_REST)), seen)


def _nydusd(name: str, refusal: Refusal, content: bytes, seen: str = "") -> Case:
    """Its nydusd is what the lock names, and is none."""
    programs = {**PROGRAMS, "nydusd": content}
    return Case(name, refusal, lambda scene: scene.lay(gz(release(programs)), programs), seen)


def _with_content(at: int, content: bytes) -> bytes:
    return GOOD[:at] + content + GOOD[at + len(content) :]


def _tampered(at: slice, content: bytes) -> bytes:
    found = bytearray(elf(b"x" * 100))
    found[at] = content
    return bytes(found)


_GZIP = (
    _packed("an arbitrary file", Refusal.NOT_GZIP, os.urandom(10).replace(b"\x1f", b"\0") + os.urandom(50_000)),
    _packed("an empty tar, not compressed", Refusal.NOT_GZIP, _TAR, "nydus-static"),
    _packed("a zip file", Refusal.NOT_GZIP, b"PK\x03\x04" + bytes(1000), "PK"),
    _packed("a web page", Refusal.PAGE, b"\n<!DOCTYPE html><title>Sign in</title>" + b" " * 500, "Sign in"),
    _packed("damage within the compressed data", Refusal.GZIP_DAMAGED, _with_content(10, b"\xff" * 40)),
    _packed("a wrong checksum within gzip", Refusal.GZIP_CHECK, GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:], "data check"),
    _packed("a wrong length within gzip", Refusal.GZIP_CHECK, GOOD[:-4] + b"\1\0\0\0", "length check"),
    _packed("gzip cut off", Refusal.GZIP_CUT, GOOD[:-9]),
    _packed("one byte", Refusal.GZIP_CUT, b"\x1f"),
    _packed("two gzip members", Refusal.GZIP_SECOND, GOOD + gz(b"more")),
    _packed("something behind gzip", Refusal.GZIP_TRAILING, GOOD + b"more"),
    _packed("a bomb: zeros without end", Refusal.GZIP_RATIO, gz(archive(header("x")) + bytes(12 << 20), 9)),
    _packed("a bomb: a huge member of zeros", Refusal.GZIP_RATIO, gz(member("zeros", bytes(12 << 20)), 9)),
    _packed("more than may be unpacked", Refusal.GZIP_SIZE, gz(member("m", os.urandom(9 << 20)) * 2, 0)),
)  # fmt: skip

_TARS = (
    _packed("gzip of something else", Refusal.NOT_TAR, gz(b"hello, world\n" * 100)),
    _packed("gzip of nothing", Refusal.NOT_TAR, gz(b"")),
    _packed("a tar without its end", Refusal.TAR_CUT, gz(archive(*_REST, end=b""))),
    _packed("a tar cut off within a program", Refusal.TAR_CUT, gz(_TAR[:100_000])),
    _packed("something behind the tar", Refusal.TAR_TRAILING, gz(_TAR + member("later", b"x"))),
    _with("a header with a wrong checksum", Refusal.TAR_HEADER, _PROGRAM, header("x", checksum=b"000123\0 ")),
    _with("a header of another kind of tar", Refusal.TAR_HEADER, _PROGRAM, header("x", magic=b"starus\0\0")),
    _with("an absolute path", Refusal.ABSOLUTE, member("/etc/cron.d/evil", b"x"), seen="/etc/cron.d/evil"),
    _with("an absolute path to a program", Refusal.ABSOLUTE, member("/usr/bin/nydusd", b"x"), seen="/usr/bin/nydusd"),
    _with("a path upwards", Refusal.PARENT, member("nydus-static/../../etc/evil", b"x"), seen="../.."),
    _with("a directory upwards", Refusal.PARENT, header("..", kind=b"5"), seen=".."),
    _with("a path upwards in two parts", Refusal.PARENT,
          header("etc/x", prefix="..", magic=b"ustar\x0000"), seen="../etc/x"),
    _with("no name", Refusal.NAME, member("", b"x")),
    _with("a name with an escape sequence", Refusal.NAME, member("a\x1b[2Jb", b"x"), seen="\\x1b"),
    _with("a name that is not UTF-8", Refusal.NAME, member(b"\xff\xfe", b"x"), seen="\\xff"),
    _with("a symbolic link", Refusal.SYMLINK, header("nydus-static", kind=b"2", link="/etc"), seen="-> /etc"),
    _with("a symbolic link instead of a program", Refusal.SYMLINK,
          header("nydus-static/nydusd", kind=b"2", link="/bin/sh"), seen="nydusd -> /bin/sh"),
    _with("a hard link", Refusal.HARDLINK, header("bin/nydusd", kind=b"1", link="/etc/shadow"), seen="-> /etc/shadow"),
    _with("a character device", Refusal.CHARACTER_DEVICE, header("dev", kind=b"3"), seen="dev"),
    _with("a block device", Refusal.BLOCK_DEVICE, header("sda", kind=b"4"), seen="sda"),
    _with("a fifo", Refusal.FIFO, header("pipe", kind=b"6"), seen="pipe"),
    _with("a sparse file", Refusal.SPARSE, header("holes", kind=b"S"), seen="holes"),
    _with("a sparse file as pax has it", Refusal.SPARSE, pax(GNU_sparse_size="1"), seen="GNU.sparse.size"),
    _with("a kind that nobody knows", Refusal.KIND, header("odd", kind=b"Z"), seen="odd"),
    _with("another path by pax", Refusal.PAX_PATH, pax(path="/etc/evil"), seen="path=/etc/evil"),
    _with("another link's target by pax", Refusal.PAX_LINK, pax(linkpath="/etc/shadow"), seen="linkpath"),
    _with("another size by pax", Refusal.PAX_SIZE, pax(size="99999999999"), seen="size=9"),
    _with("a malformed pax header", Refusal.PAX_FORM, member("x", b"99 path=/etc\n", kind=b"x"), seen="99 path"),
    _with("an endless pax header", Refusal.PAX_FORM, member("x", b"x" * 70_000, kind=b"x"), seen="70000"),
    _with("a long name as GNU has it", Refusal.LONG_NAME, member("././@LongLink", b"/etc/evil\0", kind=b"L")),
    _with("a long link as GNU has it", Refusal.LONG_LINK, member("././@LongLink", b"/etc/shadow\0", kind=b"K")),
    _with("a size in base 256", Refusal.SIZE_NUMBER,
          header("big", size_field=b"\x80" + bytes(10) + b"\x10"), seen="big"),
    _with("a negative size", Refusal.SIZE_NUMBER, header("less", size_field=b"-0000000001"), seen="less"),
    _with("a huge member", Refusal.MEMBER_SIZE, header("huge", size=7 << 30), seen=str(7 << 30)),
    _packed("tiny members without number", Refusal.MEMBERS,
            gz(archive(*(header(f"{number}") for number in range(10_100))), 0), "more than 10000"),
    _packed("tiny members without number, compressed well", Refusal.GZIP_RATIO,
            gz(archive(*(header(f"{number}") for number in range(10_100))), 9)),
    _with("a setuid program", Refusal.SETUID, member("nydus-static/su", b"x", mode=0o4755), seen="mode 4755"),
    _with("a setgid program", Refusal.SETGID, member("nydus-static/nydusd", NYDUSD, mode=0o2755), seen="mode 2755"),
    _with("a program twice", Refusal.DUPLICATE, member("other/nydusd", NYDUSD), seen="other/nydusd"),
    _packed("a program that is missing", Refusal.MISSING, gz(archive(_PROGRAM)), "nydus-image"),
)  # fmt: skip

_PROGRAMS = (
    _with("a program of another length", Refusal.PROGRAM_SIZE, member("bin/nydusd", NYDUSD + b"!"), seen="bin/nydusd"),
    _packed("a program with other bytes", Refusal.PROGRAM_DIGEST,
            gz(release({**PROGRAMS, "nydusd": NYDUSD[:-1] + bytes([NYDUSD[-1] ^ 1])})), "nydusd"),
    _with("an empty program", Refusal.EMPTY, member("bin/nydusd", b""), seen="bin/nydusd"),
    _nydusd("a script as program", Refusal.SCRIPT, b"#!/bin/sh\nrm -rf /\n", "#!/bin/sh"),
    _nydusd("a text as program", Refusal.NOT_ELF, b"not found, sorry, come again", "not found"),
    _nydusd("a program of three bytes", Refusal.NOT_ELF, b"\x7fEL", "EL"),
    _nydusd("a program for 32 bits", Refusal.ELF_32, _tampered(slice(4, 5), b"\1"), "nydusd"),
    _nydusd("a program for a big-endian machine", Refusal.ELF_BIG_ENDIAN, _tampered(slice(5, 6), b"\2"), "nydusd"),
    _nydusd("a program for arm64", Refusal.ELF_MACHINE, elf(b"x", Arch.ARM64), "it is for arm64"),
    _nydusd("a program for s390", Refusal.ELF_MACHINE, _tampered(slice(18, 20), b"\x16\0"), "machine 22"),
    _nydusd("a core dump as program", Refusal.ELF_KIND, _tampered(slice(16, 18), b"\4\0"), "type 4"),
)  # fmt: skip

CASES = (*_GZIP, *_TARS, *_PROGRAMS)
