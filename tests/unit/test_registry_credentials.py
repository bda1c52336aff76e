"""Credentials of registries: found as docker finds them, refused where they are not safe, and never
printed.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CredentialError
from agent.ports import Finished
from agent.registry.credential import Credential, Secret
from agent.registry.names import HUB_KEY, CredentialPlaces, api_host_of, docker_places, host_of
from agent.system.credentials import DockerCredentials
from agent.system.files import RootFiles
from tests.fakes.files import FakeFiles
from tests.fakes.processes import FakeProcesses

PATH = "/root/.docker/config.json"
SECRET = "s3cr3t-of-the-fleet"


def auth(user: str = "puller", password: str = SECRET) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def credentials(
    document: object,
    *,
    mode: int = 0o600,
    uid: int = 0,
    processes: FakeProcesses | None = None,
    named: str = "",
) -> DockerCredentials:
    files = FakeFiles()
    if document is not None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        files.put(PATH, content, mode=mode, uid=uid)
    return DockerCredentials(files, processes or FakeProcesses(), CredentialPlaces((PATH,), named))


def refusal(port: DockerCredentials, registry: str = "reg.test") -> CredentialError:
    """The error, after a look that no secret is in any part of it."""
    with pytest.raises(CredentialError) as caught:
        port.find(registry, deadline_s=1)
    error = caught.value
    text = " ".join(
        [str(error), repr(error), error.what, error.cause, error.try_, *error.seen, *map(str, error.args)]
    )
    assert SECRET not in text
    assert auth() not in text
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None, (
        "a traceback would print what it came from"
    )
    return error


def test_a_secret_is_printed_logged_and_stored_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(SECRET)
    found = Credential("somewhere", "puller", secret, secret, secret)
    logging.getLogger("test").warning("%s %r %s", found, secret, found.basic)
    shown = (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{found}",
        repr([found]),
        f"{secret!s:>40}",
        caplog.text,
    )
    assert not [text for text in shown if SECRET in text or auth() in text]
    for store in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            store(secret)
    with pytest.raises(TypeError):
        asdict(found)
    assert secret.reveal() == SECRET
    assert secret == Secret(SECRET)
    assert not Secret()


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://reg.test:5000/v2/", "reg.test:5000"),
        ("reg.test/team", "reg.test"),
        ("Reg.Test", "reg.test"),
        ("[::1]:5000", "[::1]:5000"),
        ("https://[half", "https://[half"),
    ],
)
def test_a_registry_has_one_name_however_it_is_written(written: str, host: str) -> None:
    assert host_of(written) == host


def test_docker_hubs_api_is_asked_where_it_answers() -> None:
    assert (api_host_of("docker.io"), api_host_of("reg.test:5000")) == (
        "registry-1.docker.io",
        "reg.test:5000",
    )


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
@pytest.mark.parametrize("asked", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_docker_hub_is_found_by_any_of_its_names(key: str, asked: str) -> None:
    looked = credentials({"auths": {key: {"auth": auth()}}}).find(asked, deadline_s=1)
    assert looked.registry == "docker.io"
    assert looked.credential is not None
    assert looked.credential.password == Secret(SECRET)
    assert looked.tried == (f'{PATH}, auths."{key}"',)


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": auth()},
        {"auth": auth()[:8] + "\n" + auth()[8:]},
        {"username": "puller", "password": SECRET},
        {"auth": auth(), "username": "other", "password": "other", "email": "a@example.org"},
    ],
)
@pytest.mark.parametrize("key", ["reg.test", "https://reg.test", "https://reg.test/v1/"])
def test_every_form_of_an_entry_that_docker_reads_is_read(key: str, entry: dict[str, str]) -> None:
    found = credentials({"auths": {key: entry}, "psFormat": "x"}).find("reg.test", deadline_s=1).credential
    assert found is not None
    assert (found.username, found.password.reveal()) == ("puller", SECRET)
    assert found.basic.reveal() == f"Basic {auth()}"
    assert found.reaches_nydusd


def test_a_port_makes_another_registry() -> None:
    looked = credentials({"auths": {"reg.test:5000": {"auth": auth()}}}).find("reg.test", deadline_s=1)
    assert looked.credential is None
    assert looked.tried == (f"{PATH}: no entry for reg.test",)


def test_identity_and_registry_tokens_are_found_and_known_not_to_reach_nydusd() -> None:
    found = credentials({"auths": {"reg.test": {"auth": auth(password=""), "identitytoken": SECRET}}}).find(
        "reg.test", deadline_s=1
    )
    assert found.credential is not None
    assert found.credential.identity_token == Secret(SECRET)
    assert not found.credential.basic
    assert not found.credential.reaches_nydusd
    bearer = (
        credentials({"auths": {"reg.test": {"registrytoken": SECRET}}})
        .find("reg.test", deadline_s=1)
        .credential
    )
    assert bearer is not None
    assert bearer.bearer.reveal() == f"Bearer {SECRET}"


def test_no_file_and_no_entry_are_answers_and_say_where_was_looked() -> None:
    assert credentials(None).find("reg.test", deadline_s=1).tried == (f"{PATH}: there is no such file",)
    assert credentials({}).find("reg.test", deadline_s=1).credential is None
    assert credentials({"auths": {"reg.test": {}}}).find("reg.test", deadline_s=1).credential is None


def test_a_file_that_the_configuration_names_must_be_there() -> None:
    error = refusal(credentials(None, named="registries.credentials"))
    assert error.code == "NNA1201"
    assert "registries.credentials" in error.cause


def helpers(answer: str = "", code: int = 0, stderr: str = "") -> FakeProcesses:
    processes = FakeProcesses()
    processes.on("docker-credential-vault", "get", code=code, stdout=answer, stderr=stderr)
    return processes


def good(user: str = "puller") -> str:
    return json.dumps({"ServerURL": "reg.test", "Username": user, "Secret": SECRET})


def test_a_registrys_own_helper_goes_before_the_store_and_both_before_auths() -> None:
    processes = FakeProcesses()
    processes.on("docker-credential-own", stdout=good("own"))
    processes.on("docker-credential-all", stdout=good("all"))
    port = credentials(
        {
            "auths": {"reg.test": {"auth": auth()}, "third.test": {"auth": auth()}},
            "credHelpers": {"reg.test": "own"},
            "credsStore": "all",
        },
        processes=processes,
    )
    own, store = port.find("reg.test", deadline_s=1), port.find("third.test", deadline_s=1)
    assert own.credential is not None
    assert store.credential is not None
    assert (own.credential.username, store.credential.username) == ("own", "all")
    assert own.tried == (f'{PATH}, credHelpers."reg.test": docker-credential-own get reg.test',)
    assert processes.ran == [("docker-credential-own", "get"), ("docker-credential-all", "get")]


def test_a_helper_is_asked_for_docker_hub_by_dockers_own_key() -> None:
    asked: list[bytes] = []

    def answer(argv: tuple[str, ...], stdin: bytes) -> Finished:
        asked.append(stdin)
        return Finished(argv, 0, good("<token>"), "")

    processes = FakeProcesses()
    processes.act("docker-credential-all", by=answer)
    found = credentials({"credsStore": "all"}, processes=processes).find("docker.io", deadline_s=1).credential
    assert asked == [HUB_KEY.encode()]
    assert found is not None
    assert found.identity_token == Secret(SECRET)
    assert not found.username


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_helper_that_has_nothing_is_an_answer(stream: str) -> None:
    processes = FakeProcesses()
    processes.on("docker-credential-vault", code=1, **{stream: "credentials not found in native keychain\n"})
    looked = credentials({"credsStore": "vault"}, processes=processes).find("reg.test", deadline_s=1)
    assert looked.credential is None
    assert looked.tried == (f"{PATH}, credsStore: docker-credential-vault get reg.test: it has none",)


@pytest.mark.parametrize(
    ("processes", "cause"),
    [
        (helpers(f"panic: {SECRET}", 2, f"panic: {SECRET}"), "exit code 2"),
        (helpers(f"{SECRET}"), "JSON"),
        (helpers("[" * 100_000), "JSON"),
        (helpers(json.dumps({"Username": "puller", "Secret": SECRET * 10_000})), "JSON"),
        (helpers(json.dumps([SECRET])), "JSON"),
        (helpers(json.dumps({"Username": 5, "Secret": SECRET})), "texts"),
        (helpers(json.dumps({"Username": "puller", "Password": SECRET})), "texts"),
        (helpers(json.dumps({"Username": "<token>", "Secret": f"{SECRET}\r\nX: y"})), "characters"),
    ],
)
def test_a_helper_that_fails_or_talks_nonsense_is_named_without_what_it_printed(
    processes: FakeProcesses, cause: str
) -> None:
    error = refusal(credentials({"credsStore": "vault"}, processes=processes))
    assert error.code == "NNA1203"
    assert "docker-credential-vault" in error.what
    assert cause in error.cause


@pytest.mark.parametrize(
    ("document", "mode", "uid", "told"),
    [
        ({"auths": {"reg.test": {"auth": auth()}}}, 0o644, 0, ("0644", "chmod 600")),
        ({"auths": {"reg.test": {"auth": auth()}}}, 0o640, 0, ("0640", "chmod 600")),
        ({"auths": {"reg.test": {"auth": auth()}}}, 0o600, 1000, ("uid 1000", "chown root:root")),
        ({"credsStore": "vault"}, 0o666, 0, ("0666", "which helper runs", "chmod go-w")),
        (b'{"auths": {"reg.test": {"auth": "' + auth().encode(), 0o644, 0, ("0644", "is not JSON")),
    ],
)
def test_a_file_that_others_can_read_or_change_is_refused_with_its_mode_and_what_to_do(
    document: object, mode: int, uid: int, told: tuple[str, ...]
) -> None:
    error = refusal(credentials(document, mode=mode, uid=uid))
    assert error.code == "NNA1201"
    assert all(word in " ".join(error.seen) for word in told)


def test_everyone_may_read_a_file_without_a_secret_and_its_owner_its_own() -> None:
    shared = credentials({"credsStore": "vault"}, mode=0o644, processes=helpers(good()))
    assert shared.find("reg.test", deadline_s=1).credential is not None
    files = FakeFiles()
    files.put(PATH, json.dumps({"auths": {"reg.test": {"auth": auth()}}}).encode(), mode=0o600, uid=1000)
    own = DockerCredentials(files, FakeProcesses(), CredentialPlaces((PATH,)), uid=1000)
    assert own.find("reg.test", deadline_s=1).credential is not None


def test_everything_that_is_wrong_with_the_file_is_told_at_once_and_no_value() -> None:
    wrong: dict[str, Any] = {
        "auths": {
            "a.test": {"auth": f"{SECRET}!"},
            "b.test": {"auth": base64.b64encode(SECRET.encode()).decode()},
            "c.test": SECRET,
            "d.test": {"password": 5, "username": "x"},
            "e.test": {"identitytoken": f"{SECRET} two"},
            "": {"auth": auth()},
            f"{SECRET} with a space": {},
        },
        "credHelpers": {"f.test": f"../{SECRET}", "g.test": 5},
        "credsStore": [SECRET],
    }
    error = refusal(credentials(wrong, mode=0o644))
    keys = [problem.key for problem in error.problems]
    assert [one for one in keys if one] == [
        'auths."a.test".auth', 'auths."b.test".auth', 'auths."c.test"', 'auths."d.test".password',
        'auths."e.test".identitytoken', "auths", "auths", 'credHelpers."f.test"', 'credHelpers."g.test"',
        "credsStore",
    ]  # fmt: skip
    assert "chmod 600" in error.problems[0].action
    assert all(problem.action and problem.file == PATH for problem in error.problems)


@pytest.mark.parametrize("document", [b"\xff\xfe", b"[1]", b'{"auths": []}', b"[" * 100_000, b""])
def test_a_file_that_is_no_configuration_of_docker_is_refused(document: bytes) -> None:
    assert refusal(credentials(document)).code == "NNA1201"


def test_root_looks_where_the_snapshotter_is_told_to_and_others_at_their_own() -> None:
    environment = {"CREDENTIALS_DIRECTORY": "/run/credentials/x", "DOCKER_CONFIG": "/elsewhere"}
    assert docker_places("", environment, uid=0, home="/root") == CredentialPlaces((PATH,))
    named = docker_places("pull", environment, uid=0, home="/root")
    assert named.paths == ("/run/credentials/x/pull", "/etc/credstore/pull", "/run/credstore/pull")
    assert named.named == "registries.credentials"
    assert docker_places("/etc/x/config.json", {}, uid=0, home="/root").paths == ("/etc/x/config.json",)
    assert docker_places("pull", environment, uid=1000, home="/home/a").paths == ("/elsewhere/config.json",)
    assert docker_places("pull", {}, uid=1000, home="/home/a").paths == ("/home/a/.docker/config.json",)


def test_a_file_in_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "config.json"
    place.write_text(json.dumps({"credsStore": "vault"}))
    find = DockerCredentials(RootFiles("/"), helpers(good()), CredentialPlaces((str(place),))).find
    assert find("reg.test", deadline_s=1).credential is not None
    tmp_path.chmod(0o777)
    with pytest.raises(CredentialError) as caught:
        find("reg.test", deadline_s=1)
    assert (caught.value.code, "where only root may write" in caught.value.seen[0]) == ("NNA1201", True)
