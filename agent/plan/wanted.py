"""The files that shall be on the node, as whole contents by path.

What is written of them is decided in `diff`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent import paths
from agent.config.model import Config, RegistryHost, Scheme
from agent.containerd.keys import quoted
from agent.containerd.render import Candidate
from agent.facts import node
from agent.facts.node import Binary, Effective, Facts, FileFact
from agent.plan import decide
from agent.plan.render import hosts as render_hosts
from agent.plan.render.nydusd import template
from agent.plan.render.snapshotter import snapshotter_config
from agent.plan.render.units import snapshotter_unit


@dataclass(frozen=True, slots=True)
class Wanted:
    """All files of ours by path, the candidate for containerd's, and what to tell."""

    snapshotter: Mapping[str, bytes]
    """Inputs of the snapshotter: it restarts where one of them changes."""
    hosts: Mapping[str, bytes]
    """hosts.toml files: read at every pull."""
    gone: tuple[str, ...]
    """Files of ours that are there and shall not be."""
    containerd: Candidate
    notes: tuple[str, ...]


def wanted(config: Config, facts: Facts, effective: Effective, containerd: Candidate) -> Wanted:
    """What shall be there. `containerd` is what becomes of its files. The binaries must have been found
    (`decide.binary_refusals`).
    """
    programs = {
        name: fact
        for name, fact in (
            ("nydusd", facts.nydusd),
            ("nydus-image", facts.nydus_image),
            ("containerd-nydus-grpc", facts.snapshotter),
        )
        if isinstance(fact, Binary)
    }
    bundle = _ca_bundle(config, facts)
    registries = _registries(config, facts)
    snapshotter = {
        paths.NYDUSD_TEMPLATE: template(config, effective),
        paths.SNAPSHOTTER_CONFIG: snapshotter_config(
            config, facts, programs, registries=paths.REGISTRIES_D if registries else ""
        ),
        paths.SNAPSHOTTER_UNIT_FILE: snapshotter_unit(
            programs["containerd-nydus-grpc"].path,
            paths.CA_BUNDLE if bundle else "",
            config.containerd.unit,
            config.registries.credentials,
        ),
        **({paths.CA_BUNDLE: bundle} if bundle else {}),
        **registries,
    }
    certs = containerd.certs
    plain, notes = _hosts(config, facts, certs, containerd)
    keep = {*snapshotter, *plain}
    gone = tuple(path for path in _present(facts, certs) if path not in keep)
    return Wanted(snapshotter, plain, gone, containerd, notes)


def _hosts(
    config: Config, facts: Facts, certs: str, containerd: Candidate
) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    if not containerd.hosts_read:
        return {}, ()
    default = f"{certs}/{render_hosts.DEFAULT}/hosts.toml"
    fact = facts.file(default)
    present = isinstance(fact, FileFact) and node.marked(fact.content)
    found = render_hosts.wanted(config, facts, default_present=present)
    files = {f"{certs}/{name}/hosts.toml": content for name, content in found.files.items()}
    return files, found.notes


def _present(facts: Facts, certs: str) -> tuple[str, ...]:
    """Files of ours that may have become superfluous."""
    found = []
    for fact in facts.files:
        if isinstance(fact, FileFact) and node.marked(fact.content):
            below = fact.path.startswith((f"{certs}/", f"{paths.REGISTRIES_D}/"))
            if below or fact.path == paths.CA_BUNDLE:
                found.append(fact.path)
    return tuple(found)


def _ca_bundle(config: Config, facts: Facts) -> bytes:
    """The CAs of private registries in one file; empty where there is none."""
    parts = []
    for path in dict.fromkeys(registry.ca for registry in config.registries.hosts if registry.ca):
        fact = facts.file(path)
        if isinstance(fact, FileFact):
            parts.append(f"# {path}\n".encode() + fact.content.rstrip(b"\n") + b"\n")
    return f"# {paths.MARK}; made of the files named below.\n".encode() + b"".join(parts) if parts else b""


def _registries(config: Config, facts: Facts) -> Mapping[str, bytes]:
    """For snapshotters that read them: each registry's own address as its "mirror", which gives it a scheme
    and a CA.

    Without a ping_url the first host is taken as it is (containerd/nydus-snapshotter#736).
    """
    if not decide.per_registry(facts):
        return {}
    needing = [one for one in config.registries.hosts if one.scheme is Scheme.HTTP or one.ca]
    return {f"{paths.REGISTRIES_D}/{one.host}/hosts.toml": _registry(one) for one in needing}


def _registry(registry: RegistryHost) -> bytes:
    lines = [f"# {paths.MARK}; scheme and CA of this registry for nydusd.", ""]
    lines.append(f"[host.{quoted(f'{registry.scheme.value}://{registry.host}')}]")
    if registry.ca:
        lines.append(f"  ca = {quoted(registry.ca)}")
    return ("\n".join(lines) + "\n").encode()
