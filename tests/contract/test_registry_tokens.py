"""Registries' challenges and token servers on the loopback: what is sent to whom, and what is made of the
answer.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.errors import CredentialError
from agent.registry.credential import Credential, Looked, Secret, pull_scope
from agent.system.credentials import ChallengeAnswers
from tests.contract.certificates import server_side
from tests.contract.server import Script, Server, answering, serving
from tests.contract.waiting import ENDS_S

SECRET, TOKEN = "s3cr3t-of-the-fleet", "t0ken.of-the_registry"
SCOPES = (pull_scope("team/app"),)
BASIC = base64.b64encode(f"puller:{SECRET}".encode()).decode()
PASSWORD = Credential("config.json", "puller", Secret(SECRET))
IDENTITY = Credential("config.json", identity_token=Secret(SECRET))


def answers(
    credential: Credential | None = PASSWORD, *, secure: bool = False, now: float = 0.0
) -> ChallengeAnswers:
    looked = Looked("reg.test", credential, ("config.json, auths",))
    return ChallengeAnswers(looked, secure=secure, now=(lambda: now) if now else time.monotonic)


def bearer(server: Server, path: str = "/token") -> str:
    return f'Bearer realm="{server.url}{path}",service="reg",scope="{SCOPES[0]}"'


def token(**more: object) -> Script:
    return answering("200 OK", json.dumps({"token": TOKEN, **more}).encode())


def refusal(port: ChallengeAnswers, challenge: str, *, deadline_s: float = 5) -> CredentialError:
    with pytest.raises(CredentialError) as caught:
        port.answer(challenge, SCOPES, deadline_s=deadline_s)
    error = caught.value
    text = " ".join([str(error), *error.seen, error.cause, error.what])
    assert not [one for one in (SECRET, BASIC, TOKEN) if one in text]
    assert error.__suppress_context__ or error.__context__ is None
    return error


def query(head: bytes) -> dict[str, list[str]]:
    return parse_qs(urlsplit(head.decode().split(" ")[1]).query)


def test_basic_is_answered_without_asking_anybody() -> None:
    port = answers()
    assert port.answer('Basic realm="x"', SCOPES, deadline_s=5).reveal() == f"Basic {BASIC}"
    assert port.known(SCOPES).reveal() == f"Basic {BASIC}"
    assert not port.known([pull_scope("other")])


def test_a_password_buys_a_token_for_the_scope_and_it_is_kept() -> None:
    with serving(token(expires_in=300)) as server:
        port = answers()
        header = port.answer(bearer(server), [pull_scope("b")], deadline_s=5)
        assert header.reveal() == f"Bearer {TOKEN}"
        (head,) = server.heads
        assert head.startswith(b"GET /token?")
        assert f"Authorization: Basic {BASIC}\r\n".encode() in head
        assert query(head) == {"service": ["reg"], "scope": ["repository:b:pull", SCOPES[0]]}
        assert port.known([pull_scope("b")]) == header


def test_public_images_get_a_token_without_a_credential() -> None:
    with serving(token()) as server:
        assert answers(None).answer(bearer(server), SCOPES, deadline_s=5).reveal() == f"Bearer {TOKEN}"
        assert b"authorization" not in server.heads[0].lower()


def test_an_identity_token_goes_into_a_form_and_into_no_url() -> None:
    with serving(answering("200 OK", json.dumps({"access_token": TOKEN}).encode())) as server:
        assert answers(IDENTITY).answer(bearer(server), SCOPES, deadline_s=5).reveal() == f"Bearer {TOKEN}"
        head = server.heads[0]
        assert head.startswith(b"POST /token HTTP")
        assert b"authorization" not in head.lower()
        assert b"application/x-www-form-urlencoded" in head


def test_a_registry_token_is_sent_as_it_is() -> None:
    port = answers(Credential("config.json", registry_token=Secret(SECRET)))
    assert (
        port.answer('Bearer realm="http://127.0.0.1:1/"', SCOPES, deadline_s=5).reveal() == f"Bearer {SECRET}"
    )


@pytest.mark.parametrize(("told", "holds_s"), [({"expires_in": 300}, 290), ({}, 50), ({"expires_in": 5}, 50)])
def test_a_token_is_not_used_up_to_its_end(told: dict[str, object], holds_s: int) -> None:
    clock = [100.0]
    port = ChallengeAnswers(Looked("reg.test", PASSWORD, ()), secure=False, now=lambda: clock[0])
    with serving(token(**told)) as server:
        header = port.answer(bearer(server), SCOPES, deadline_s=5)
    clock[0] = 100 + holds_s - 1
    assert port.known(SCOPES) == header
    clock[0] = 100 + holds_s + 1
    assert not port.known(SCOPES)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_credential_is_told_with_what_was_tried(status: str) -> None:
    with serving(answering(status, b"no, " + SECRET.encode())) as server:
        error = refusal(answers(), bearer(server))
    assert error.code == "NNA1205"
    assert error.seen == ("config.json, auths",)
    assert status[:3] in error.cause


def test_an_identity_token_that_has_ended_is_a_refusal() -> None:
    with serving(answering("400 Bad Request", b'{"error": "invalid_grant"}')) as server:
        assert refusal(answers(IDENTITY), bearer(server)).code == "NNA1205"
        assert refusal(answers(), bearer(server)).code == "NNA1203", (
            "for a password it says nothing of the kind"
        )


@pytest.mark.parametrize("challenge", ["", "Negotiate", 'Digest realm="x"', "=,,="])
def test_a_registry_that_wants_something_else_is_told(challenge: str) -> None:
    assert refusal(answers(), challenge).code == "NNA1205"


@pytest.mark.parametrize("credential", [None, IDENTITY])
def test_basic_without_a_password_is_a_refusal(credential: Credential | None) -> None:
    assert refusal(answers(credential), 'Basic realm="x"').code == "NNA1205"


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.1.1]/",
        "http://100.100.100.200/latest", "http://[fd00:ec2::254]/", "http://2852039166/",
        "file:///etc/shadow",
        "ftp://reg.test/", "", "http://", "http://user:pass@127.0.0.1:1/", "http://[half/",
        "http://127.0.0.1:99999/",
        "/token",
    ],
)  # fmt: skip
def test_a_credential_goes_to_no_place_where_none_belongs(realm: str) -> None:
    assert refusal(answers(), f'Bearer realm="{realm}"').code == "NNA1203"


def test_a_credential_for_an_https_registry_is_never_sent_in_clear() -> None:
    with serving(token()) as server:
        error = refusal(answers(secure=True), bearer(server))
        assert server.heads == []
    assert (error.code, "plain http" in error.cause) == ("NNA1203", True)


@pytest.mark.parametrize(
    "script",
    [
        answering("200 OK", b"<html>" + TOKEN.encode()),
        answering("200 OK", b"[" * 100_000),
        answering("200 OK", b'{"token": 5}'),
        answering("200 OK", b'{"token": ""}'),
        answering("200 OK", json.dumps({"token": f"{TOKEN}\r\nX: y"}).encode()),
        answering("500 Oops", b""),
        lambda connection, _head: connection.sendall(b"\x16\x03\x01 what?"),
        lambda connection, _head: None,
    ],
)  # fmt: skip
def test_a_token_server_that_talks_nonsense_is_given_up(script: Script) -> None:
    began = time.monotonic()
    with serving(script) as server:
        assert refusal(answers(), bearer(server), deadline_s=1).code == "NNA1203"
    assert time.monotonic() - began < ENDS_S


def test_a_token_server_of_a_private_ca_is_asked_over_tls(keys: Path) -> None:
    port = ChallengeAnswers(Looked("reg.test", PASSWORD, ()), secure=True, ca=str(keys / "ca.pem"))
    with serving(token(), tls=server_side(keys)) as server:
        assert port.answer(bearer(server), SCOPES, deadline_s=5).reveal() == f"Bearer {TOKEN}"


@pytest.mark.parametrize("ca", ["other.pem", "server.key", "none.pem"])
def test_a_token_server_that_the_ca_did_not_sign_gets_no_credential(keys: Path, ca: str) -> None:
    port = ChallengeAnswers(Looked("reg.test", PASSWORD, ()), secure=True, ca=str(keys / ca))
    with serving(token(), tls=server_side(keys)) as server:
        assert refusal(port, bearer(server)).code == "NNA1203"
        assert server.heads == []


def test_a_handshake_that_does_not_end_is_given_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    began = time.monotonic()
    with listener:
        threading.Thread(target=_half_a_handshake, args=(listener,)).start()
        challenge = f'Bearer realm="https://127.0.0.1:{listener.getsockname()[1]}/"'
        assert refusal(answers(secure=True), challenge, deadline_s=1).code == "NNA1203"
    assert time.monotonic() - began < ENDS_S


def _half_a_handshake(listener: socket.socket) -> None:
    """A record that goes on and on, slowly: each read alone is soon over."""
    client, _ = listener.accept()
    with client, contextlib.suppress(OSError):
        client.recv(65536)
        client.sendall(b"\x16\x03\x03\x40\x00")
        while True:
            client.sendall(b"\x02")
            time.sleep(0.1)
