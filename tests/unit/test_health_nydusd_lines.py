"""nydusd's lines: which are symptoms, of which kind. The texts were written by real ones."""

from __future__ import annotations

import pytest

from agent.health.evidence import SymptomKind
from agent.health.symptoms import classify, failed

RETRY = "Read from backend failed: {}, retry count 3"
STATUS = 'Registry(Request(ErrorWithMsg("")))'
CUT = (
    "Registry(Transport(reqwest::Error { kind: Body, source: hyper::Error(Body, Custom { kind: "
    "UnexpectedEof, error: IncompleteBody }) }))"
)
TIMED_OUT = "Registry(Transport(reqwest::Error { kind: Decode, source: TimedOut }))"
DESTROYED = (
    "Registry(Transport(reqwest::Error { kind: Body, source: hyper::Error(Body, Os { code: 103, "
    'kind: ConnectionAborted, message: "Software caused connection abort" }) }))'
)
ATTEMPT = (
    "backend request: GET https://registry/v2/a/blobs/sha256:0?sig=secret, chunk: 4096 bytes, proxy: {}, "
    "proxy sdk: false, takes 2.1ms, error: {}"
)
BLOB = f"sha256:{'0a' * 32}"
OF_24 = (
    f"backend request: GET http://127.0.0.1:5000/v2/team/app/blobs/{BLOB}, chunk: 1048576 bytes, proxy: "
    f"{{}}, "
    "proxy sdk: false, takes 1.023456ms, error: {}"
)
SLOW = (
    "backend request: GET https://registry/x, chunk: 9 bytes, proxy: true, proxy sdk: false, takes 1s: "
    "slow request"
)


def painted(level: str, text: str, where: str = "/nydus-storage-0.6.2/src/backend/mod.rs:132") -> str:
    """As nydusd writes to a terminal or to the journal."""
    paint = f"\x1b[1;38;5;{ {'WARN': 208, 'ERROR': 196}[level] }m"
    time = f"{paint}2026-11-24 22:06:54.704804 +00:00\x1b[0m"
    return f"[{time}] {paint}{level}\x1b[0m [{where}] {paint}{text}\x1b[0m"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        # 2.2.0, through a mirror that answers 429, cuts, hangs within the body, sends zeros, refuses
        (painted("WARN", RETRY.format(STATUS)), SymptomKind.STATUS),
        (painted("WARN", RETRY.format(CUT)), SymptomKind.CUT),
        (painted("WARN", RETRY.format(TIMED_OUT)), SymptomKind.CUT),
        (f"\t{STATUS}", SymptomKind.STATUS),  # the last attempt's
        (f"\t{CUT}", SymptomKind.CUT),
        (painted("ERROR", "failed to decompress chunk: Unknown frame descriptor"), SymptomKind.DECODE),
        (painted("ERROR", "failed to decompress blob meta data: Unknown frame descriptor"),
         SymptomKind.DECODE),
        (painted("WARN", "Request proxy server failed, fallback to original server"), SymptomKind.FALLBACK),
        # 2.4.4
        (painted("ERROR", ATTEMPT.format("true", STATUS)), SymptomKind.STATUS),
        (painted("ERROR", ATTEMPT.format("false", 'Registry(Proxy(Proxy(TooManyRequests(""))))')),
         SymptomKind.STATUS),
        (painted("ERROR", ATTEMPT.format("true", 'Request(Proxy(Forbidden("")))')), SymptomKind.REFUSED),
        (painted("ERROR", ATTEMPT.format("true", 'Request(Proxy(TooManyRequests("")))')), SymptomKind.STATUS),
        (painted("ERROR", ATTEMPT.format("true", 'Request(Proxy(Common("[proxy] x")))')), SymptomKind.STATUS),
        (painted("ERROR", ATTEMPT.format("false", 'Request(Proxy(Forbidden("")))')), SymptomKind.REFUSED),
        (painted("ERROR", ATTEMPT.format("true",
                                         'Registry(Common("stream_read failed, status: 404 Not Found"))')),
         SymptomKind.STATUS),
        (painted("ERROR", ATTEMPT.format("true",
                                         'Registry(Transport(Custom { kind: Other, error: "end" }))')),
         SymptomKind.CUT),
        # another path, no paint, the mirrors dialect
        (painted("WARN", RETRY.format(STATUS), "storage/src/backend/mod.rs:1"), SymptomKind.STATUS),
        ("[2026-11-24 22:06:54.7 +00:00] WARN [x.rs:1] " + RETRY.format(STATUS), SymptomKind.STATUS),
        (RETRY.format(STATUS), SymptomKind.STATUS),
        (painted("WARN", '[mirror] request failed, server: "http://127.0.0.1:4001", Common(x)'),
         SymptomKind.FALLBACK),
    ],
)  # fmt: skip
def test_what_a_read_met_is_told_apart(line: str, kind: SymptomKind) -> None:
    found = classify(line)
    assert found is not None
    assert found.kind is kind
    assert "secret" not in found.means


def test_a_refusal_names_the_blob_and_its_registry() -> None:
    found = classify(painted("ERROR", OF_24.format("true", 'Request(Proxy(Forbidden("secret")))')))
    assert found is not None
    assert found.kind is SymptomKind.REFUSED
    assert found.means == (f"403 of the mirror's own, not tried again: 127.0.0.1:5000/team/app, blob {BLOB}")


@pytest.mark.parametrize(
    "url",
    [
        f"https://registry/v2/a/blobs/{BLOB}?sig=secret",
        f"https://user:secret@registry/v2/a/blobs/{BLOB}",
        f"https://registry/v2/{'a' * 300}/blobs/{BLOB}",
        f"https://registry/v2/a%1b[31m/blobs/{BLOB}",
        f"https://registry/v2/A\x1b[31m/blobs/{BLOB}",
        "https://store/secret/data",
        "https://registry/v2/a/blobs/sha256:short",
    ],
)
def test_a_url_that_is_no_plain_name_of_a_blob_is_not_repeated(url: str) -> None:
    line = OF_24.format("true", 'Request(Proxy(Forbidden("")))').replace(OF_24.split()[3], f"{url},")
    found = classify(line)
    assert found is not None
    assert found.means.endswith("not tried again")


LONG = f"https://store/{'a' * 40_000}?sig=secret"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        # 2.2 names in the error what it asked for, 2.4 in the line: a redirect's URL is the registry's to
        # choose
        (RETRY.format(CUT.replace("kind: Body, ", 'kind: Body, url: Url { host: Some(Domain("x")), path: '
                                  '"/ConnectionAborted" }, ')), SymptomKind.CUT),
        ("\t" + CUT.replace("kind: Body, ", 'kind: Body, url: "https://x/ConnectionAborted", '),
         SymptomKind.CUT),
        (ATTEMPT.format("true",
                        'Registry(Transport(Custom { kind: Other, error: "request or response body error for '
                        'url (https://x/ConnectionAborted?os error 103)" }))'), SymptomKind.CUT),
        (ATTEMPT.format("true",
                        r'Registry(Transport(Custom { kind: Other, error: "\" ConnectionAborted \"" }))'),
         SymptomKind.CUT),
        (ATTEMPT.format("true", 'Request(Proxy(Forbidden("")))').replace("https://registry", LONG),
         SymptomKind.REFUSED),
        (ATTEMPT.format("true", STATUS).replace("https://registry", LONG), SymptomKind.STATUS),
    ],
    ids=("debug", "quoted", "words", "escaped", "long refusal", "long status"),
)  # fmt: skip
def test_a_name_that_others_choose_hides_no_failure(line: str, kind: SymptomKind) -> None:
    found = classify(line)
    assert found is not None
    assert found.kind is kind


def test_a_name_that_others_choose_makes_no_failed_attempt_of_a_slow_one() -> None:
    assert failed(painted("ERROR", ATTEMPT.format("true", STATUS)))
    assert not failed(painted("WARN", SLOW.replace("https://registry/x", "https://registry/ error: x")))


@pytest.mark.parametrize(
    "line",
    [
        # a URL, a body or a header that would like to be the rest of a line
        ATTEMPT.format("true", 'Registry(Url("x error: Request(Proxy(Forbidden(", EmptyHost))'),
        "backend request: GET https://x/ error: Request(Proxy(Forbidden(, chunk: 1 bytes, proxy: true",
        ATTEMPT.format("true", 'Request(Proxy(Forbidden("")))').replace("registry", f"x/{'a' * 40_000} "),
        painted("WARN", "proxy blocked the request"),
        painted("WARN", "retry via source backend with QPS limiter, remains: 0"),
        "[2026-11-24 22:06:54.7 +00:00] INFO backend config: ConnectionConfig { proxy: ProxyConfig { url: "
        "x } }",
        painted("WARN", "Proxy server is not healthy, fallback to original server"),
        painted("WARN", "Request to all mirror server failed, fallback to original server."),
        painted("WARN", "proxy rate limited the request"),
        painted("WARN", "retry via proxy, remains: 2"),
        painted("WARN", SLOW),
        # one failure is one symptom: 2.2.0 writes several lines, 2.4.4 says why before it falls back
        painted("ERROR", "Error:"),
        "\tat nydus-storage-0.6.2/src/cache/mod.rs:250",
        "\tnote: enable `RUST_BACKTRACE=1` env to display a backtrace\x1b[0m",
        painted("ERROR", "fuse: reply error header OutHeader { len: 16, error: -5, unique: 146 }"),
        painted("WARN", "Request proxy server failed: Common(reqwest::Error { kind: Request })"),
        # the origin failed too, after the mirror had
        painted("WARN", RETRY.format("Registry(Request(Common(reqwest::Error { kind: Request })))")),
        # the fence ended the connection
        painted("WARN", RETRY.format(DESTROYED)),
        painted(
            "ERROR", ATTEMPT.format("true", 'Registry(Transport(Custom { error: "abort (os error 103)" }))')
        ),
        painted(
            "WARN", RETRY.format(DESTROYED.replace("kind: Body, ", 'kind: Body, url: "https://x/\\"", '))
        ),
        painted(
            "WARN", RETRY.format("Registry(Transport(reqwest::Error { source: Kind(ConnectionAborted) }))")
        ),
        # what others can put into a line
        'time="2026-11-24T22:19:37Z" level=info msg="prepare" image="failed to decompress chunk: x"',
        "",
    ],
)
def test_all_else_is_no_symptom(line: str) -> None:
    assert classify(line) is None
