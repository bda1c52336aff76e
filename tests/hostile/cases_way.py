"""Ways that lead where a download must not go."""

from __future__ import annotations

from dataclasses import replace

from agent.artifacts.fetching import Source, SourceKind
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal
from tests.hostile.case import PATH, Case, Scene
from tests.hostile.server import Exchange, answer, head, redirect
from tests.hostile.stage import GOOD, pinned


def _to(name: str, target: str, refusal: Refusal, seen: str = "") -> Case:
    return Case(f"leads to {name}", refusal, lambda scene: scene.serve(redirect(target), GOOD), seen)


def _endless_redirect(scene: Scene) -> Artifact:
    def lead(exchange: Exchange) -> bool:
        exchange.send(head("302 Found", Location="file:///etc/shadow"))
        while True:
            exchange.send(b"x" * 65536)

    return scene.serve(lead, GOOD)


def _circle(scene: Scene) -> Artifact:
    scene.web.routes["/there"] = redirect(scene.web.url(PATH), "307 Temporary Redirect")
    return scene.serve(redirect("/there", "301 Moved Permanently"), GOOD)


def _chain(scene: Scene) -> Artifact:
    for step in range(6):
        scene.web.routes[f"/{step}"] = redirect(f"/{step + 1}")
    scene.web.routes["/6"] = answer(GOOD)
    return scene.serve(redirect("/0"), GOOD)


def _secure(scene: Scene, target: str) -> Artifact:
    scene.source = Source(SourceKind.RELEASE, ca=scene.ca)
    scene.secure.routes[PATH] = redirect(target)
    return pinned(GOOD, scene.secure.url(PATH))


def _downgrade(scene: Scene) -> Artifact:
    scene.web.routes["/plain"] = answer(GOOD)
    return _secure(scene, scene.web.url("/plain"))


def _unknown_authority(scene: Scene) -> Artifact:
    scene.secure.routes[PATH] = answer(GOOD)
    return pinned(GOOD, scene.secure.url(PATH))


def _another_name(scene: Scene) -> Artifact:
    artifact = _secure(scene, "/unused")
    return replace(artifact, url=scene.secure.url(PATH, host="localhost"))


def _no_tls(scene: Scene) -> Artifact:
    artifact = scene.serve(answer(GOOD), GOOD)
    return replace(artifact, url=artifact.url.replace("http:", "https:"))


def _wants_credentials(scene: Scene) -> Artifact:
    """A mirror that leads to another host, which would like to have the mirror's credentials."""
    name = PATH.rpartition("/")[2]
    scene.source = Source(SourceKind.MIRROR, scene.web.url("/nydus"), "Bearer s3cret")

    def steal(exchange: object) -> bool:
        headers = getattr(exchange, "headers", {})
        scene.other.routes["stolen"] = answer(headers.get("authorization", "").encode())
        return answer(b"give me more", "401 Unauthorized", WWW_Authenticate="Basic")(exchange)  # type: ignore[arg-type]  # an Exchange

    scene.other.routes["/steal"] = steal
    scene.web.routes[f"/nydus/{name}"] = redirect(scene.other.url("/steal", host="localhost"))
    return pinned(GOOD, f"https://example.org/x/{name}")


_METADATA = Refusal.ADDRESS_METADATA

CASES = (
    Case("leads in a circle", Refusal.REDIRECT_LOOP, _circle),
    Case("leads to itself", Refusal.REDIRECT_LOOP, lambda scene: scene.serve(redirect(PATH), GOOD), PATH),
    Case("leads on and on", Refusal.REDIRECT_COUNT, _chain, "5 were followed"),
    _to("a file", "file:///etc/shadow", Refusal.REDIRECT_SCHEME, "file:///etc/shadow"),
    _to("FTP", "ftp://example.org/x", Refusal.REDIRECT_SCHEME, "ftp://"),
    _to("a data URL", "data:text/plain,hello", Refusal.REDIRECT_SCHEME, "data:"),
    _to("the cloud's metadata", "http://169.254.169.254/latest/meta-data/", _METADATA, "169.254.169.254"),
    _to("the metadata as one number", "http://2852039166/", _METADATA, "2852039166 is 169.254.169.254"),
    _to("the metadata as IPv6", "http://[::ffff:169.254.169.254]/", _METADATA, "::ffff:"),
    _to("the metadata behind NAT64", "http://[64:ff9b::a9fe:a9fe]/", _METADATA, "64:ff9b::"),
    _to("EC2's metadata over IPv6", "http://[fd00:ec2::254]/", _METADATA, "fd00:ec2::254"),
    _to("another link-local address", "http://169.254.7.7:8080/", Refusal.ADDRESS_LINK_LOCAL, "169.254.7.7"),
    _to("a link-local IPv6 address", "http://[fe80::1]/", Refusal.ADDRESS_LINK_LOCAL, "fe80::1"),
    _to("0.0.0.0", "http://0.0.0.0:22/", Refusal.ADDRESS_SPECIAL, "0.0.0.0"),
    _to("a multicast address", "http://224.0.0.1/", Refusal.ADDRESS_SPECIAL, "224.0.0.1"),
    _to("nowhere", "", Refusal.REDIRECT_NOWHERE),
    _to("what is no URL", "http://[::1", Refusal.REDIRECT_NOWHERE, "no URL"),
    Case("leads to a file, with a body without end", Refusal.REDIRECT_SCHEME, _endless_redirect, "file:///etc/shadow"),
    Case("leads from https to http", Refusal.REDIRECT_DOWNGRADE, _downgrade),
    Case("leads from https to a file", Refusal.REDIRECT_SCHEME, lambda scene: _secure(scene, "file:///etc/passwd")),
    Case("has a certificate of nobody", Refusal.TLS, _unknown_authority, "certificate"),
    Case("has a certificate for another name", Refusal.TLS, _another_name, "localhost"),
    Case("speaks no TLS", Refusal.TLS, _no_tls),
    Case("leads a mirror's credentials to another host", Refusal.NOT_ALLOWED, _wants_credentials, "/steal"),
)
