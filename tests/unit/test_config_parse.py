"""A wrong configuration is told as a whole, and what is right comes out typed."""

from __future__ import annotations

import pytest

from agent.config import accepted
from agent.config.fields import settings, spell
from agent.config.forms import Form
from agent.config.model import Config, Refusals, RegistryHost, Scheme, Switch
from agent.config.parse import Parsed, TomlDocument, parse, values_of
from agent.errors import Problem

BASE = "/etc/nydus-agent/agent.toml"


def read(text: str, *drop_ins: str) -> Parsed:
    later = [
        TomlDocument(f"conf.d/{number}.toml", drop_in, drop_in=True)
        for number, drop_in in enumerate(drop_ins, 1)
    ]
    return parse([TomlDocument(BASE, text), *later])


def right(text: str, *drop_ins: str) -> Config:
    parsed = read(text, *drop_ins)
    assert parsed.problems == ()
    return parsed.config


def only_problem(text: str) -> Problem:
    problems = read(text).problems
    assert len(problems) == 1, problems
    return problems[0]


def test_a_node_with_a_local_dfdaemon_needs_no_file() -> None:
    parsed = parse([])
    assert parsed == Parsed(Config())
    assert parsed.config.mirror.url == "http://127.0.0.1:4001"


@pytest.mark.parametrize("number", ["9" * 5000, f"0x{'9' * 5000}", "a." * 3000 + "b = 1"])
def test_a_number_or_a_key_without_an_end_is_told_as_a_problem(number: str) -> None:
    text = number if number[0] == "a" else f"[endpoint]\nport = {number}"
    assert "of thousands of digits, or is nested too deeply" in only_problem(text).reason
    listen = only_problem(f'metrics.listen = "127.0.0.1:{"9" * 5000}"')
    assert "of thousands of digits" in listen.reason


def test_what_is_written_arrives_typed() -> None:
    config = right("""
        version = 1
        [mirror]
        url = "http://[::1]:4001"
        switch = "native"
        health.rise = 3
        [[registries.hosts]]
        host = "registry.example.org:5000"
        scheme = "http"
        [[registries.hosts]]
        host = "other"
        ca = "/etc/ca.pem"
        [apply]
        on_install = true
    """)
    assert config.mirror.switch is Switch.NATIVE
    assert config.mirror.health.rise == 3
    assert config.mirror.health.fall == Config().mirror.health.fall
    assert config.registries.hosts == (
        RegistryHost("registry.example.org:5000", Scheme.HTTP),
        RegistryHost("other", Scheme.HTTPS, "/etc/ca.pem"),
    )
    assert config.apply.on_install is True


def test_later_files_win_tables_are_merged_and_lists_replaced() -> None:
    config = right(
        '[mirror]\nurl = "http://10.0.0.1:1"\nuser = "dragonfly"\n[registries]\ninclude = ["a", "b"]',
        '[mirror]\nurl = "http://10.0.0.2:2"',
        '[registries]\ninclude = ["c"]',
    )
    assert config.mirror.url == "http://10.0.0.2:2"
    assert config.mirror.user == "dragonfly"
    assert config.registries.include == ("c",)


def test_the_operator_learns_which_file_set_a_key() -> None:
    parsed = read("[fleet]\nreturn_window_s = 1", "[drift]\nrepair = 'own'")
    assert parsed.origins == {"fleet.return_window_s": BASE, "drift.repair": "conf.d/1.toml"}


def test_every_default_is_a_value_that_the_operator_may_write() -> None:
    lines = [f"{key} = {spell(value)}" for key, value in values_of(Config()) if key != "registries.hosts"]
    parsed = read("\n".join(lines))
    assert parsed == Parsed(Config(), origins=parsed.origins)
    assert len(parsed.origins) == len(lines)


def test_every_setting_says_what_it_means_and_what_it_may_be() -> None:
    for setting in settings():
        assert setting.doc, setting.key
        bounded = setting.low is not None and setting.high is not None
        formed = isinstance(setting.form, Form)
        assert setting.choices or setting.is_tables or setting.kind is bool or bounded or formed, setting.key


def test_a_problem_names_file_key_value_reason_and_what_to_do() -> None:
    assert only_problem("[mirror.health]\nfall = 'two'") == Problem(
        BASE, "mirror.health.fall", '"two"', "must be a whole number, not a text",
        "write a number without quotes, such as 2",
    )  # fmt: skip


def test_all_problems_of_all_files_are_told_at_once() -> None:
    parsed = read(
        '[mirror]\nurl = 3\nurll = "x"\n[mirror.health]\nfall = 0\n[nope]\na = 1',
        "[endpoint]\nport = 70000",
        "[drift\n",
        "[snapshotter]\nroot = 'relative'",
    )
    assert {(problem.file, problem.key) for problem in parsed.problems} == {
        (BASE, "mirror.url"),
        (BASE, "mirror.urll"),
        (BASE, "mirror.health.fall"),
        (BASE, "nope"),
        ("conf.d/1.toml", "endpoint.port"),
        ("conf.d/2.toml", ""),
        ("conf.d/3.toml", "snapshotter.root"),
    }


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[miror]\nurl = 'x'", "did you mean mirror?"),
        ("[mirror]\nping-url = 'x'", "did you mean mirror.ping_url?"),
        ("[mirror]\ninterval_ms = 3", "did you mean mirror.health.interval_ms?"),
        ("[endpoint]\nlisten = 'x'", "did you mean metrics.listen?"),
        ("versio = 1", "did you mean version?"),
        ("[[registries.hosts]]\nhost = 'a'\nskeme = 'http'", "did you mean registries.hosts[0].scheme?"),
        ("[apply]\nzzz = 1", "remove it; known here: on_install, restarts_per_hour"),
    ],
)
def test_a_misspelt_key_gets_a_suggestion(text: str, hint: str) -> None:
    problem = only_problem(text)
    assert problem.reason == "unknown key"
    assert problem.action == hint


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("mirror = 3", "mirror", "must be a table, not a whole number"),
        ("[mirror]\nurl = true", "mirror.url", "must be a text, not true or false"),
        ("[mirror]\nurl = 2026-01-01", "mirror.url", "must be a text, not a date or time"),
        ("[mirror.health]\nfall = true", "mirror.health.fall", "must be a whole number, not true or false"),
        ("[mirror.health]\nfall = 2.0", "mirror.health.fall", "must be a whole number, not a number"),
        ("[mirror.health]\nfall = 101", "mirror.health.fall", "is out of range"),
        ("[apply]\non_install = 1", "apply.on_install", "must be true or false, not a whole number"),
        ("[apply]\non_install = 'true'", "apply.on_install", "must be true or false, not a text"),
        ("[mirror]\nswitch = 'Fence'", "mirror.switch", "is not one of the choices"),
        ("[registries]\ninclude = 'a'", "registries.include", "must be a list, not a text"),
        ("[registries]\ninclude = ['a', 3]", "registries.include[1]", "must be a text, not a whole number"),
        ("[registries]\nhosts = ['a']", "registries.hosts[0]", "must be a table, not a text"),
        ("[registries]\nhosts = {host = 'a'}", "registries.hosts", "must be a list, not a table"),
        ("[[registries.hosts]]\nscheme = 'http'", "registries.hosts[0].host", "is missing"),
        ("version = 2", "version", "is a format that this version of the agent does not know"),
        ("version = true", "version", "is a format that this version of the agent does not know"),
        ("[endpoint]\nport = 0", "endpoint.port", "is out of range"),
        ('[mirror]\nurl = "http://127.0.0.1:4001\\u001b[31m"', "mirror.url", "holds a control character"),
    ],
)  # fmt: skip
def test_a_wrong_type_or_value_is_refused(text: str, key: str, reason: str) -> None:
    problem = only_problem(text)
    assert (problem.key, problem.reason) == (key, reason)
    assert problem.action


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        (Form.UNIT, "containerd", "is not the name of a service"),
        (Form.UNIT, "../containerd.service", "is not the name of a service"),
        (Form.UNIT, "", "is not the name of a service"),
        (Form.PROGRAM, "containerd --debug", "is not the name of a program"),
        (Form.PROGRAM, "bin/containerd", "is not an absolute path"),
        (Form.MIRROR_URL, "http://localhost:4001", "names a host (localhost)"),
        (Form.MIRROR_URL, "http://dfdaemon.dragonfly.svc:4001", "names a host"),
        (Form.MIRROR_URL, "https://127.0.0.1:4001", "must be http://ADDRESS:PORT"),
        (Form.MIRROR_URL, "127.0.0.1:4001", "must be http://ADDRESS:PORT"),
        (Form.MIRROR_URL, "", "must be http://ADDRESS:PORT"),
        (Form.MIRROR_URL, "http://127.0.0.1", "names no port"),
        (Form.MIRROR_URL, "http://127.0.0.1:0", "has port 0"),
        (Form.MIRROR_URL, "http://127.0.0.1:99999", "is not a URL"),
        (Form.MIRROR_URL, "http://127.0.0.1:4001/", "must end after the port"),
        (Form.MIRROR_URL, "http://u:p@127.0.0.1:4001", "must end after the port"),
        (Form.MIRROR_URL, "http://169.254.169.254:80", "is link-local"),
        (Form.MIRROR_URL, "http://[fe80::1]:80", "is link-local"),
        (Form.MIRROR_URL, "http://0.0.0.0:4001", "is no address of a single host"),
        (Form.MIRROR_URL, "http://[::1:4001", "is not a URL"),
        (Form.MIRROR_URL, "http://[::ffff:0:0]:4001", "is no address of a single host"),
        (Form.MIRROR_URL, "http://168.63.129.16:80", "is link-local"),
        *((Form.MIRROR_URL, f"http://[{address}]:80", "is link-local") for address in (
            "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a83f:8110", "fd00:ec2::254",
            "::ffff:0:a9fe:a9fe", "fd00:c1::a9fe:a9fe", "fd00:100::100:200", "fd00:a9fe:a9fe::1",
            "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001::5601:5601",
        )),
        (Form.MIRROR_URL, "http://192.0.0.192:80", "is link-local"),
        (Form.HTTP_URL, "http://100.100.100.200/latest", "is link-local"),
        (Form.HTTP_URL, "ftp://127.0.0.1/", "must be an http URL"),
        (Form.HTTP_URL, "https://127.0.0.1/", "must be an http URL"),
        (Form.HTTP_URL, "file:///etc/passwd", "must be an http URL"),
        (Form.HTTP_URL, "http://169.254.169.254/latest", "is link-local"),
        (Form.HTTP_URL, "http://user@127.0.0.1/", "holds a user name"),
        (Form.ORIGIN_URL, "registry.example.org", "must be a registry's URL with its scheme"),
        (Form.ORIGIN_URL, "https://registry.example.org/", "must end after the host and port"),
        (Form.PATH, "etc/x", "is not an absolute path"),
        (Form.PATH, "/etc/../x", 'holds "." or ".."'),
        (Form.ROOT_PATH, "/" + "a" * 70, "is 71 bytes long, at most 70"),
        (Form.ROOT_PATH, "/" + "ä" * 35, "is 71 bytes long, at most 70"),
        (Form.ROOT_PATH, "/", "must name something below /"),
        (Form.SOCKET_PATH, "/" + "a" * 107, "is 108 bytes long, at most 107"),
        (Form.OPTIONAL_PATH, "ca.pem", "is not an absolute path"),
        (Form.REGISTRY, "https://registry.example.org", "must be a registry's host and port only"),
        (Form.REGISTRY, "*", "is not the name of a registry"),
        (Form.REGISTRY, "a:70000", "has a port out of range"),
        (Form.REGISTRY_OR_ALL, "*.example.org", "is not the name of a registry"),
        (Form.LISTEN, "14004", "must be ADDRESS:PORT"),
        (Form.LISTEN, "localhost:14004", "must be ADDRESS:PORT"),
        (Form.LISTEN, "::1:14004", "must be ADDRESS:PORT"),
        (Form.LISTEN, "127.0.0.1:0", "must be ADDRESS:PORT"),
        (Form.USER, "Bad User", "is neither a user name nor a uid"),
        (Form.PROGRAMS, "2.4", "is neither a version nor a known word"),
        (Form.PROGRAMS, "latest", "is neither a version nor a known word"),
        (Form.PROGRAMS, "2.4.4/../../x", "is neither a version nor a known word"),
        (Form.PROGRAMS, "2.4.4-RC1", "is neither a version nor a known word"),
        (Form.PROGRAMS, "v2.4.4", "has the v of the release's tag"),
        (Form.RELEASE, "newest", "is not a version"),
        (Form.RELEASE, "2.4.4-rc..1", "is not a version"),
        (Form.ARCHIVE_URL, "ftp://example.org/a.tgz", "is not the URL of an archive"),
        (Form.ARCHIVE_URL, "https://me:secret@example.org/a.tgz", "is not the URL of an archive"),
        (Form.ARCHIVE_URL, "https://example.org/a.tgz?key=1", "is not the URL of an archive"),
        (Form.ARCHIVE_URL, "https://example.org/", "is not the URL of an archive"),
        (Form.SHA256, "A" * 64, "is no sha256"),
        (Form.DOCKER_CONFIG, "../secret", "is neither a path nor the name of a credential"),
        (Form.DOCKER_CONFIG, "/etc/../config.json", 'holds "." or ".."'),
        (Form.DOCKER_CONFIG, "/etc/docker/auth.json", "is not named config.json"),
        (Form.DOCKER_CONFIG, "/etc/a b/config.json", "characters that a unit"),
        (Form.DOCKER_CONFIG, "/etc/%d/config.json", "characters that a unit"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_work_is_refused_with_its_reason(form: Form, text: str, reason: str) -> None:
    complaint = form.complaint(text)
    assert complaint is not None
    assert reason in complaint[0]
    assert complaint[1]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form.MIRROR_URL, "http://10.1.2.3:30401"), (Form.MIRROR_URL, "http://[::1]:4001"),
        (Form.HTTP_URL, "http://10.0.0.1/healthy"), (Form.HTTP_URL, "http://127.0.0.1:4003/healthy?x=1"),
        (Form.ORIGIN_URL, ""), (Form.ORIGIN_URL, "https://registry.example.org:5000"),
        (Form.ROOT_PATH, "/" + "a" * 69), (Form.SOCKET_PATH, "/run/containerd/containerd.sock"),
        (Form.DOCKER_CONFIG, ""), (Form.DOCKER_CONFIG, "/etc/x/config.json"), (Form.DOCKER_CONFIG,
            "pull-secret"),
        (Form.OPTIONAL_PATH, ""), (Form.REGISTRY, "registry.example.org"), (Form.REGISTRY, "127.0.0.1:5000"),
        (Form.REGISTRY, "[::1]:5000"), (Form.REGISTRY_OR_ALL, "*"), (Form.LISTEN, ""), (Form.LISTEN,
            "[::]:9100"),
        (Form.USER, "dragonfly"), (Form.USER, "1001"), (Form.UNIT, "k3s-agent.service"),
        (Form.PROGRAM, "containerd"), (Form.PROGRAM, "/opt/containerd"), (Form.PROGRAMS, "system"),
        (Form.PROGRAMS, "newest"), (Form.PROGRAMS, "2.4.4"), (Form.PROGRAMS, "0.16.0-rc.1"),
        (Form.RELEASE, "2.4.4"), (Form.ARCHIVE_URL, "https://example.org:8443/d/v2.4.4/nydus-static.tgz"),
        (Form.SHA256, "0" * 64),
    ],
)  # fmt: skip
def test_a_text_that_works_is_taken(form: Form, text: str) -> None:
    assert form.complaint(text) is None


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        (
            "[mirror.health]\nlease_ms = 2000",
            "mirror.health.lease_ms",
            "one late renewal would let the fence lapse",
        ),
        (
            "[mirror.health]\nrenew_ms = 5000",
            "mirror.health.renew_ms",
            "one late renewal would let the fence lapse",
        ),
        ("[mirror.health]\nwindow_ms = 200", "mirror.health.window_ms", "a well mirror would look hung"),
        ("[mirror]\ndialect = 'mirrors'", "mirror.dialect", "must tell Dragonfly which registry"),
        ("[endpoint]\nport = 4003", "endpoint.port", "cannot both listen there"),
        ("[metrics]\nlisten = '0.0.0.0:4001'", "metrics.listen", "cannot both listen there"),
        ("[metrics]\nlisten = '127.0.0.1:14003'", "metrics.listen", "cannot share a port"),
        (
            "[[registries.hosts]]\nhost = 'a'\nscheme = 'http'\nca = '/x'",
            "registries.hosts[0].ca",
            "in plain http",
        ),
        (
            "[[registries.hosts]]\nhost = 'a'\n[[registries.hosts]]\nhost = 'a'",
            "registries.hosts[1].host",
            "second",
        ),
    ],
)
def test_settings_that_cannot_be_together_are_refused(text: str, key: str, reason: str) -> None:
    problem = only_problem(text)
    assert problem.key == key
    assert reason in problem.reason
    assert problem.file == BASE


def test_a_pair_is_not_judged_by_a_value_that_could_not_be_read() -> None:
    """Else a typing error in one key would be told twice, the second time misleadingly."""
    problem = only_problem("[mirror.health]\nlease_ms = '20 s'\nrenew_ms = 9000")
    assert problem.key == "mirror.health.lease_ms"
    assert problem.reason == "must be a whole number, not a text"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[mirror]\nregistry = 'https://a'", "only the mirrors dialect sends it"),
        ("[mirror.health]\nlease_ms = 3000", "a frozen agent is back after up to"),
        ("[snapshotter]\nlog_level = 'error'", "nydusd tells of a bad mirror at info"),
    ],
)
def test_what_works_but_not_as_it_seems_is_a_warning(text: str, reason: str) -> None:
    parsed = read(text)
    assert parsed.problems == ()
    assert len(parsed.warnings) == 1
    assert reason in parsed.warnings[0]


def test_two_drop_ins_in_conflict_are_both_named_and_the_later_wins() -> None:
    parsed = read("", "fleet.return_window_s = 10", "fleet.return_window_s = 20")
    assert parsed.config.fleet.return_window_s == 20
    assert len(parsed.warnings) == 1
    for expected in ("conf.d/1.toml", "conf.d/2.toml", "fleet.return_window_s", "10", "20"):
        assert expected in parsed.warnings[0]


@pytest.mark.parametrize(
    "texts",
    [
        (
            "fleet.return_window_s = 10",
            "fleet.return_window_s = 20",
        ),  # a drop-in over the base file: what it is for
        ("", "fleet.return_window_s = 10", "fleet.return_window_s = 10"),
        ("", "fleet.return_window_s = 10", "drift.repair = 'own'"),
    ],
)
def test_drop_ins_that_agree_are_no_conflict(texts: tuple[str, ...]) -> None:
    assert read(*texts).warnings == ()


def test_nesting_without_end_is_a_problem_and_not_a_crash() -> None:
    assert only_problem("a = " + "[" * 5000 + "]" * 5000).file == BASE


def test_a_record_of_an_older_version_wants_the_same_where_only_new_keys_are_missing() -> None:
    """Else the first apply after an upgrade of the package would record a new generation for nothing."""
    now = accepted.record(Config())
    older = {**now, "programs": {"nydus": "newest"}}
    assert accepted.same(older, now)
    assert not accepted.same({**now, "programs": {"nydus": "2.4.4"}}, now)


def test_whether_refusals_are_honoured_is_the_operator_s_present_word_and_no_reason_for_an_apply() -> None:
    then, now = right(""), right("[mirror]\nrefusals = 'honour'")
    assert then.mirror.refusals is Refusals.AROUND
    assert accepted.same(accepted.record(then), accepted.record(now))
    assert accepted.restored(now, accepted.record(then)).mirror.refusals is Refusals.HONOUR
    assert "refusals" in str(only_problem("[mirror]\nrefusals = 'maybe'"))


def test_which_programs_a_node_was_changed_for_is_recorded() -> None:
    then, now = (
        right("[programs]\nnydus = '2.4.3'"),
        right("[programs]\nnydus = '2.4.4'\nsnapshotter = 'system'"),
    )
    back = accepted.restored(now, accepted.record(then)).programs
    assert (back.nydus, back.snapshotter) == ("2.4.3", "newest")
