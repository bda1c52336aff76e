"""What the package puts on a node."""

from __future__ import annotations

import dataclasses
import gzip
import re
import subprocess
from pathlib import PurePosixPath

import agent
from agent import catalogue, cli
from agent.config import model
from tests.node import stock
from tests.package.deb import Package

_PLACES = re.compile(
    r"""/etc/needrestart/conf\.d/nydus-agent\.conf
    | /etc/nydus-agent/conf\.d/?
    | /usr/bin/nydus-agent
    | /usr/lib/systemd/(system/nydus-agent[-a-z]*\.(service|timer|path)|catalog/nydus-agent\.catalog)
    | /usr/lib/(sysusers|tmpfiles)\.d/nydus-node-agent\.conf
    | /usr/share/nydus-node-agent/agent/.*\.py
    | /usr/share/doc/nydus-node-agent/.*
    | /usr/share/man/man5/agent\.toml\.5\.gz
    | /usr/share/man/man8/nydus-agent(-(setup|observe|operate|images))?\.8\.gz
    | /usr/share/man/man7/nydus-agent-errors\.7\.gz
    | /usr/share/bash-completion/completions/nydus-agent
    | /usr/share/zsh/vendor-completions/_nydus-agent
    | /usr/share/lintian/overrides/nydus-node-agent
    | /usr/share/python3/runtime\.d/nydus-node-agent\.rtupdate
    """,
    re.VERBOSE,
)

_PAGES = {
    "man8/nydus-agent.8": [
        "nydus-agent-setup",
        "nydus-agent-observe",
        "nydus-agent-operate",
        "nydus-agent-images",
        "nydus-agent-errors",
    ],
    "man8/nydus-agent-setup.8": ["plan", "apply", "rollback", "repair"],
    "man8/nydus-agent-observe.8": ["status", "doctor"],
    "man8/nydus-agent-operate.8": ["route", "drill", "dragonfly"],
    "man8/nydus-agent-images.8": ["programs", "convert", "bench"],
    "man7/nydus-agent-errors.7": list(catalogue.CATALOGUE),
    "man5/agent.toml.5": [field.name for field in dataclasses.fields(model.MirrorConfig)],
}


def _paths(package: Package) -> list[str]:
    return ["/" + member.name.removeprefix("./") for member in package.members if not member.isdir()]


def test_every_file_lies_where_a_reader_of_the_design_expects_it(package: Package) -> None:
    assert [path for path in _paths(package) if not _PLACES.fullmatch(path)] == []


def test_a_node_gets_all_that_was_promised(package: Package) -> None:
    wanted = {
        "/usr/bin/nydus-agent", "/usr/lib/systemd/system/nydus-agent.service",
        "/usr/lib/systemd/system/nydus-agent-apply.service",
        "/usr/lib/systemd/system/nydus-agent-recover.service",
        "/usr/lib/systemd/system/nydus-agent-boot.service",
        "/usr/lib/systemd/system/nydus-agent-inspect.service",
        "/usr/lib/systemd/system/nydus-agent-inspect.timer",
        "/usr/lib/systemd/system/nydus-agent-inspect.path",
        "/usr/lib/systemd/system/nydus-agent-repair.service",
        *(f"/usr/share/man/{page}.gz" for page in _PAGES),
        "/usr/share/bash-completion/completions/nydus-agent",
        "/usr/share/zsh/vendor-completions/_nydus-agent",
        "/usr/share/doc/nydus-node-agent/examples/agent.toml",
        "/usr/share/doc/nydus-node-agent/examples/nydus-agent.rules.yml",
        "/usr/lib/systemd/catalog/nydus-agent.catalog",
        "/usr/share/nydus-node-agent/agent/_pb/introspection_pb2_grpc.py",
    }  # fmt: skip
    assert wanted - set(_paths(package)) == set()


def test_every_module_of_the_checkout_is_in_it(package: Package) -> None:
    source = PurePosixPath(agent.__file__).parent
    command = ["git", "-c", "safe.directory=*", "ls-files", "agent"]
    listed = subprocess.run(
        command, cwd=source.parent, capture_output=True, text=True, check=True
    ).stdout.split()
    missing = [
        path
        for path in listed
        if path.endswith(".py") and not (package.files / "usr/share/nydus-node-agent" / path).exists()
    ]
    assert missing == []


def test_nobody_but_root_can_change_what_root_runs(package: Package) -> None:
    for member in package.members:
        assert (member.uname, member.gname) == ("root", "root"), member.name
        executable = member.isdir() or member.name in (
            "./usr/bin/nydus-agent",
            "./usr/share/python3/runtime.d/nydus-node-agent.rtupdate",
        )
        assert member.mode == (0o755 if executable else 0o644), member.name
        assert member.isdir() or member.isfile(), member.name


def test_an_upgrade_never_asks_about_the_operators_configuration(package: Package) -> None:
    conffiles = (package.control / "conffiles").read_text().split()
    assert conffiles == ["/etc/needrestart/conf.d/nydus-agent.conf"]
    assert [path for path in _paths(package) if path.startswith("/etc/nydus-agent")] == []
    assert (package.files / "etc/nydus-agent/conf.d").is_dir()


def test_the_example_changes_nothing_until_a_line_is_uncommented(package: Package) -> None:
    example = package.read("/usr/share/doc/nydus-node-agent/examples/agent.toml")
    live = [
        line for line in example.splitlines() if line.strip() and not line.lstrip().startswith(("#", "["))
    ]
    assert live in ([], ["version = 1"])


def test_every_link_of_a_page_leads_somewhere_on_the_node_too(package: Package) -> None:
    directory = package.files / "usr/share/doc/nydus-node-agent"
    pages = sorted(directory.glob("*.md"))
    links = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\(([^)\s#]+)", page.read_text())
        if ":" not in link
    ]
    assert {"start.md", "troubleshoot.md"} <= {link for _, link in links}
    assert [(page, link) for page, link in links if not (directory / link).exists()] == []


def test_tab_completes_every_verb_in_bash_and_zsh(package: Package) -> None:
    for path in ("bash-completion/completions/nydus-agent", "zsh/vendor-completions/_nydus-agent"):
        text = package.read(f"/usr/share/{path}")
        assert [verb.name for verb in cli.public_verbs() if verb.name not in text] == []


def test_the_manual_is_whole(package: Package) -> None:
    """Its tables are generated: none may be empty."""
    pages = {
        name: gzip.decompress((package.files / f"usr/share/man/{name}.gz").read_bytes()).decode()
        for name in _PAGES
    }
    for name, words in _PAGES.items():
        assert [word for word in words if word not in pages[name].replace("\\-", "-")] == [], name


def test_no_environment_of_the_caller_changes_what_the_launcher_imports(package: Package) -> None:
    assert package.read("/usr/bin/nydus-agent").splitlines()[0] == "#!/usr/bin/python3 -I"


def test_everything_it_needs_is_in_debian_trixie(package: Package) -> None:
    """The root of the test nodes is made from trixie alone: what is installed there is in trixie."""
    status = (stock.root() / "var/lib/dpkg/status").read_text()
    there = set(re.findall(r"^Package: (\S+)$", status, re.MULTILINE))
    there |= {
        name
        for line in re.findall(r"^Provides: (.*)$", status, re.MULTILINE)
        for name in re.findall(r"[a-z0-9.+-]+", line)
    }
    assert [group for group in package.dependencies() if there.isdisjoint(group)] == []


def test_the_versions_agree(package: Package) -> None:
    assert package.field("Version") == agent.__version__
    assert package.field("Architecture") == "all"


def test_the_needrestart_file_is_perl_that_spares_what_must_not_be_restarted(package: Package) -> None:
    text = package.read("/etc/needrestart/conf.d/nydus-agent.conf")
    ask = r"""
        our %nrconf; eval do { local $/; <STDIN> }; die $@ if $@;
        my $spared = $nrconf{override_rc};
        for my $unit (@ARGV) { print "$unit\n" if grep { $unit =~ $_ && !$spared->{$_} } keys %$spared }
    """
    spared = ["nydus-snapshotter.service", "nydus-agent-apply.service", "nydus-agent-repair.service"]
    units = [*spared, "nydus-agent.service", "containerd.service"]
    told = subprocess.run(
        ["perl", "-e", ask, *units], input=text, capture_output=True, text=True, check=True, timeout=30
    )
    assert told.stdout.split() == spared
