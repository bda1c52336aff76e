"""A node without Kubernetes gets its dfdaemon from what `nydus-agent dragonfly` prints, and kind and
Kubernetes take the other files.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.model import Config, RegistryHost, Scheme
from agent.plan.render import hosts
from tests.node import images, parts, scene, stock
from tests.node.boot import Node
from tests.node.talk import ORIGIN, REPO, ask, blob

# The agent runs beside, and dfdaemon is started again and again: its servers listen one after the other.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: PingFails: ")

STRANGER = "registry.test:5444"
"""An https registry whose CA the node does not trust."""

SITE = """\
[[registries.hosts]]
host = "127.0.0.1:5000"
scheme = "http"
"""

UNIT = f"""\
[Unit]
After=network-online.target
After=network.target
[Service]
ExecStart={parts.DFDAEMON_ON_NODE}/bin/dfdaemon --config /etc/dragonfly/dfdaemon.yaml --console
Type=simple
Environment=HOME=/root
Restart=on-success
CPUQuota=100%
CPUWeight=400
MemoryMax=8G
[Install]
WantedBy=multi-user.target
"""
"""As upstream's package has it, but for the program's place."""

DROP_IN = "/etc/systemd/system/dfdaemon.service.d/50-restart.conf"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node on which an operator has put the rendered files where they say that they belong, and started
    dfdaemon.
    """
    with Node(shares=parts.dragonfly_shares()) as made:
        registry = parts.start_registry(made)
        parts.start_tls_registry(made, trusted=True)
        parts.start_tls_registry(made, port=5444, ca=parts.make_ca(made, "stranger"))
        images.push(made, "reader-nydus", f"{registry.host}/reader:1")
        parts.start_scheduler(made)
        scene.install_only(made, SITE)
        made.write("/etc/systemd/system/dfdaemon.service", UNIT)
        for form, more in (
            ("dfdaemon", ["--advertise", "127.0.0.1", "--bandwidth", "1250MB"]),
            ("dynconfig", ["--scheduler", "127.0.0.1:8002"]),
            ("dfdaemon-unit", []),
        ):
            file = scene.agent_json(made, "dragonfly", "render", form, *more)
            made.write(file["file"], file["text"])
        start(made)
        yield made


def start(node: Node) -> None:
    """Start dfdaemon by its unit as it is now, and wait for its proxy."""
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "reset-failed", "dfdaemon"], check=False)
    node.run(["systemctl", "start", "dfdaemon"])
    parts.wait_for_port(node, 4001, parts.Unit(node, "dfdaemon.service"))


def stop(node: Node) -> None:
    """At once; by itself it takes as long as somebody holds a connection."""
    node.run(["systemctl", "stop", "--no-block", "dfdaemon"])
    node.run(["systemctl", "kill", "--signal=KILL", "dfdaemon"], check=False)
    node.wait_until(lambda: not dfdaemons_sockets(node), 10, "dfdaemon has ended")


def dfdaemons_sockets(node: Node) -> set[str]:
    return {
        line.split()[3] for line in node.run(["ss", "-Hltnp"]).stdout.splitlines() if '"dfdaemon"' in line
    }


def test_a_real_dfdaemon_starts_from_our_file_and_nobody_else_can_use_it_as_a_proxy(node: Node) -> None:
    assert dfdaemons_sockets(node) == {f"127.0.0.1:{port}" for port in (4000, 4001, 4002, 4003, 4004, 4005)}


@pytest.mark.parametrize("registry", ["127.0.0.1:5000", "registry.test:5443"], ids=["http", "https"])
def test_blobs_of_both_kinds_of_registries_come_through_the_peers_when_nydusd_asks(
    node: Node, registry: str
) -> None:
    """In plain http through the proxy, as nydusd asks with use_http."""
    answer = ask(node, 4001, "GET", f"http://{registry}{REPO}/blobs/{blob()}", Range="bytes=0-4095")
    assert answer.status == 206
    assert len(answer.body) == 4096
    assert "x-dragonfly-task-id" in answer.headers


def status_of_a_tag(node: Node, host: str, authorization: str = "") -> int:
    """What containerd gets when it asks for a tag with the header of our hosts.toml; 0: the connection was
    closed.
    """
    headers = {
        "X_Dragonfly_Registry": f"https://{host}",
        "Accept": "application/vnd.oci.image.manifest.v1+json",
    }
    if authorization:
        headers["Authorization"] = authorization
    try:
        return ask(node, 4001, "GET", f"{REPO}/manifests/1", **headers).status
    except (OSError, http.client.HTTPException):
        return 0


def test_a_tag_is_looked_up_only_at_a_registry_whose_certificate_verifies(node: Node) -> None:
    assert status_of_a_tag(node, "registry.test:5443") == 200
    assert status_of_a_tag(node, STRANGER) in (0, 500, 502)
    blobs = ask(node, 4001, "GET", f"http://{STRANGER}{REPO}/blobs/{blob()}", Range="bytes=0-99")
    assert blobs.status == 206, "the file's comment says so: blobs are known by their digest alone"


def audited(node: Node) -> tuple[int, str, set[str]]:
    """Exit code, subject and items of an audit of what runs."""
    answer = scene.agent_json(node, "dragonfly", "audit", "--live")
    assert [one for one in answer["not_looked"] if one["untold"]] == []
    return answer["exit"], answer["subject"], {one["item"] for one in answer["findings"]}


def test_an_audit_of_the_dfdaemon_that_runs_from_our_files_finds_nothing(node: Node) -> None:
    code, subject, items = audited(node)
    assert (code, items) == (0, set())
    assert subject == "dfdaemon 1.5.10 on this node (/etc/dragonfly/dfdaemon.yaml)"


def test_a_dfdaemon_that_is_killed_is_started_again(node: Node) -> None:
    before = node.main_pid("dfdaemon.service")
    node.run(["systemctl", "kill", "--signal=KILL", "dfdaemon"])
    node.wait_until(
        lambda: node.main_pid("dfdaemon.service") not in (0, before), 20, "systemd starts dfdaemon again"
    )
    parts.wait_for_port(node, 4001, parts.Unit(node, "dfdaemon.service"))


def sent_with_a_password(node: Node) -> tuple[str, ...]:
    """Requests of each kind, those too that end with an error; the password in the forms in which it was
    sent.
    """
    password = secrets.token_hex(16)
    basic = base64.b64encode(f"puller:{password}".encode()).decode()
    for authorization in (f"Bearer {password}", f"Basic {basic}"):
        for path in ("manifests/1", f"blobs/{blob()}", f"blobs/sha256:{secrets.token_hex(32)}"):
            ask(node, 4001, "GET", f"{ORIGIN}{REPO}/{path}", Authorization=authorization)
        status_of_a_tag(node, "registry.test:5443", authorization)
        status_of_a_tag(node, STRANGER, authorization)
        status_of_a_tag(node, "127.0.0.1:9", authorization)
    return password, basic


def log_of_dfdaemon(node: Node) -> str:
    """The journal's part and its files, once they have everything: it writes an error for a blob that is not
    there.
    """

    def text() -> str:
        files = node.run(["bash", "-c", "cat /var/log/dragonfly/dfdaemon/* 2>/dev/null || true"]).stdout
        return node.journal("dfdaemon.service") + files

    before = text().count(" ERROR ")
    ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/sha256:{'0' * 64}", X_Dragonfly_Use_P2P="true")
    node.wait_until(lambda: text().count(" ERROR ") > before, 10, "dfdaemon has written its last error")
    return text()


def test_no_password_that_goes_through_it_is_in_its_log(node: Node) -> None:
    """By our drop-in alone, also after systemd has started it again."""
    written = sent_with_a_password(node)
    assert [one for one in written if one in log_of_dfdaemon(node)] == []


MADE = "/var/lib/made-by-root"
"""On the file system of dfdaemon's storage."""


def made_by_a_user(node: Node) -> str:
    """What is at MADE when any user of the node has asked the proxy for it: mode and owner, or nothing."""
    command = ["curl", "--silent", "--fail", "--output", "/dev/null", "--proxy", "http://127.0.0.1:4001"]
    command += ["--header", f"X-Dragonfly-Output-Path: {MADE}", "--header", "X-Dragonfly-Use-P2P: true"]
    node.run([*command, f"{ORIGIN}{REPO}/blobs/{blob()}"], user="nobody")
    return node.run(["stat", "--format=%a %U", MADE], check=False).stdout.strip()


def test_no_user_of_the_node_has_root_write_files_through_it(node: Node) -> None:
    assert made_by_a_user(node) == "", "by our drop-in; the blob itself came"


@pytest.mark.parametrize(
    "authorization", [None, "Basic bm9ib2R5Om5vYm9keQ=="], ids=["applied", "of the bench"]
)
def test_containerd_asks_a_registry_alone_with_its_ca_and_logs_no_error(
    node: Node, authorization: str | None
) -> None:
    """containerd 1.6 and 1.7 go on without a file that has no table of hosts, and so without its CA."""
    registry = RegistryHost(STRANGER, Scheme.HTTPS, f"{parts.PKI}/stranger.crt")
    file = (
        hosts.host_file(Config(), registry, mirror=False, dial=False)
        if authorization is None
        else hosts.as_somebody(registry, authorization)
    )
    node.write(f"/run/certs.d/{STRANGER}/hosts.toml", file.decode())
    told = node.run(["ctr", "content", "fetch", "--hosts-dir", "/run/certs.d", f"{STRANGER}/reader:1"])
    # ctr's progress display may ask once more when the fetch has ended, and logs that as an error.
    errors = [line for line in told.stderr.splitlines() if "level=error" in line]
    assert [line for line in errors if not line.endswith('context canceled"')] == []
    node.run(["ctr", "images", "rm", f"{STRANGER}/reader:1"])


def as_read(node: Node, tmp_path: Path, what: str, form: str, *more: str) -> Any:
    """The file as its real consumer reads it."""
    file = tmp_path / f"{form}.yaml"
    file.write_text(scene.agent(node, "dragonfly", "render", form, *more).stdout)
    done = consumer(what, file)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def consumer(what: str, file: Path) -> subprocess.CompletedProcess[str]:
    """kind's decoder, or Kubernetes' type, on a file."""
    return subprocess.run(
        [stock.dragonfly_files(), what, file], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("more", [(), ("--page",)], ids=str)
def test_kinds_own_decoder_takes_the_cluster(node: Node, tmp_path: Path, more: tuple[str, ...]) -> None:
    cluster = as_read(node, tmp_path, "kind", "kind", *more)
    assert [entry["HostPort"] for entry in cluster["Nodes"][1]["ExtraPortMappings"]] == [4001, 4003]
    addresses = {entry["ListenAddress"] for entry in cluster["Nodes"][1]["ExtraPortMappings"]}
    assert addresses == ({""} if "--page" in more else {"127.0.0.1"}), "kind makes 0.0.0.0 of none"


@pytest.mark.parametrize("more", [(), ("--peers", "seed-client"), ("--page",)], ids=str)
def test_kubernetes_own_type_takes_the_service(node: Node, tmp_path: Path, more: tuple[str, ...]) -> None:
    service = as_read(node, tmp_path, "service", "peer-service", *more)
    assert service["spec"]["type"] == "NodePort"
    assert [entry["nodePort"] for entry in service["spec"]["ports"]] == [30950, 30951]
    assert ("release" in service["spec"]["selector"]) == ("--page" in more)


def test_a_key_that_neither_knows_would_be_noticed(node: Node, tmp_path: Path) -> None:
    for what, form in (("kind", "kind"), ("service", "peer-service")):
        text = scene.agent(node, "dragonfly", "render", form).stdout
        file = tmp_path / form
        file.write_text(text.replace("role: worker", "roll: worker").replace("nodePort:", "nodesPort:"))
        done = consumer(what, file)
        assert done.returncode == 1
        assert "not found" in done.stderr or "unknown field" in done.stderr


BINARY_DEFAULT = "host: {ip: 127.0.0.1}\nbackend: {enableHickoryDNS: false}\n"
"""dfdaemon.yaml that leaves all to dfdaemon, but for what this node has not: another address, a name
server.
"""


@pytest.fixture(scope="module")
def plain(node: Node) -> Node:
    """The same node with dfdaemon as its package leaves it: the tests of ours come before."""
    stop(node)
    node.run(["rm", DROP_IN])
    node.write("/etc/dragonfly/dfdaemon.yaml", BINARY_DEFAULT)
    start(node)
    return node


def test_by_its_defaults_dfdaemon_is_an_open_proxy_and_believes_any_certificate(plain: Node) -> None:
    """What our file is for."""
    assert "0.0.0.0:4001" in dfdaemons_sockets(plain)
    assert status_of_a_tag(plain, STRANGER) == 200, "who sits between chooses the image"


def test_by_its_own_unit_any_user_has_root_write_files_through_it(plain: Node) -> None:
    assert made_by_a_user(plain).endswith(" root")


def test_by_its_defaults_it_writes_passwords_into_its_log(plain: Node) -> None:
    written = sent_with_a_password(plain)
    plain.wait_until(
        lambda: all(one in plain.journal("dfdaemon.service") for one in written),
        10,
        "both forms are in the journal",
    )


def test_an_audit_of_it_finds_what_it_really_does(plain: Node) -> None:
    code, _, items = audited(plain)
    assert code == 3
    limits = {"bandwidth", "upload-bandwidth", "back-to-source-bandwidth", "prefetch-bandwidth"}
    slow = {"piece-timeout", "collected-piece-timeout", "write-piece-timeout"}
    seen = {"open-proxy", "stats-address", "health-address", "metrics-address", "unit", "root-writes"}
    assert items == {"prefetch", "keep", "certificate", "rules", "log-level", *limits, *slow, *seen}


def test_a_file_of_cas_that_is_not_there_is_found_because_dfdaemon_goes_on_without_it(plain: Node) -> None:
    stop(plain)
    plain.write(
        "/etc/dragonfly/dfdaemon.yaml", f"{BINARY_DEFAULT}proxy: {{registryMirror: {{cert: /gone.pem}}}}\n"
    )
    start(plain)
    assert status_of_a_tag(plain, STRANGER) == 200, "it takes any certificate"
    found = scene.agent_json(plain, "dragonfly", "audit", "--live")["findings"]
    assert [one["value"] for one in found if one["item"] == "certificate"] == [
        "/gone.pem, which is not there"
    ]


def state_of_dfdaemon(node: Node) -> str:
    """As systemd has it; "activating" while it waits to start it again."""
    return node.run(["systemctl", "is-active", "dfdaemon"], check=False).stdout.strip()


def test_by_its_own_unit_a_dfdaemon_that_is_killed_stays_dead(plain: Node) -> None:
    """What our drop-in is for."""
    plain.run(["systemctl", "kill", "--signal=KILL", "dfdaemon"])
    plain.wait_until(lambda: state_of_dfdaemon(plain) == "failed", 10, "systemd gives dfdaemon up")
    answer = scene.agent_json(plain, "dragonfly", "audit", "--live")
    assert "dfdaemon" in {one["item"] for one in answer["not_looked"] if one["untold"]}
    assert "unit" in {one["item"] for one in answer["findings"]}, "which is why it is gone"


def test_a_unit_with_a_limit_of_starts_is_given_up_where_no_scheduler_answers(plain: Node) -> None:
    """Restart=always is not all. systemd's own limit is 5 in 10 s, which a busy machine may not reach."""
    plain.write(DROP_IN, "[Unit]\nStartLimitIntervalSec=60\n[Service]\nRestart=always\n")
    plain.run(["systemctl", "stop", "test-scheduler"])
    plain.run(["systemctl", "daemon-reload"])
    plain.run(["systemctl", "reset-failed", "dfdaemon"], check=False)
    plain.run(["systemctl", "start", "dfdaemon"])

    plain.wait_until(lambda: state_of_dfdaemon(plain) == "failed", 60, "systemd starts it no more")
    assert "Start request repeated too quickly" in plain.journal("dfdaemon.service")
    findings = scene.agent_json(plain, "dragonfly", "audit", "--live")["findings"]
    assert "gives up after 5 starts within 60 s" in {
        one["value"] for one in findings if one["item"] == "unit"
    }
