"""One proof: what was shown, what failed, and what could not be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent import __version__, paths
from agent.codec import to_document, to_json
from agent.config.model import Config
from agent.documents.drift import Finding
from agent.documents.status import CheckResult, CheckState, ProofDocument
from agent.errors import AgentError, Exit, FileChangedError, hide
from agent.facts.node import Effective, Facts
from agent.node.waits import Before
from agent.ports import Files, Ports
from agent.records import json_files

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_TRIES = 3
"""Of publishing a proof while others publish theirs."""


@dataclass(frozen=True, slots=True)
class Proof:
    """All checks, lowest first; `at` in seconds since the epoch."""

    at: float
    checks: tuple[CheckResult, ...]
    findings: tuple[Finding, ...] = ()
    """What others have changed of what was applied."""
    versions: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    """What the configuration wants other than was applied, in words: `apply` does it.

    No fault of the node.
    """
    unrenewed: tuple[str, ...] = ()
    """Images in use whose credential expires and is not renewed (NNA1207). No fault yet."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at for drift, each with the reason: nobody knows whether it is as it was
    applied.
    """

    @property
    def drift(self) -> tuple[str, ...]:
        """The findings in words."""
        return tuple(one.what for one in self.findings)

    @property
    def headline(self) -> CheckResult | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.state is CheckState.FAILED), None)

    @property
    def exit(self) -> Exit:
        """3 where a check failed or something drifted, 4 where something could not be told, else 0."""
        if self.headline is not None or self.drift:
            return Exit.NOT_AS_WANTED
        open_ = self.unseen or any(check.state is CheckState.UNKNOWN for check in self.checks)
        return Exit.UNKNOWN if open_ else Exit.OK


CALL_S = 5.0
"""The deadline of one question that a check asks."""


@dataclass(frozen=True, slots=True)
class ProofView:
    """What a check looks at."""

    ports: Ports
    config: Config
    facts: Facts
    effective: Effective
    before: Before


# What a check says; `inspection.run_checks` adds its number and name.


def ok(detail: str, *evidence: str) -> CheckResult:
    """Shown."""
    return CheckResult(0, "", CheckState.OK, detail, evidence=evidence)


def failed(code: str, detail: str, *, cause: str, evidence: tuple[str, ...] = (), try_: str) -> CheckResult:
    """Shown not to be so."""
    return CheckResult(0, "", CheckState.FAILED, detail, code, cause, evidence, try_)


def failed_by(code: str, error: AgentError, try_: str) -> CheckResult:
    """Failed with an error of a port; the check has its own code, the port's is in the cause."""
    cause = f"[{error.code}] {error.cause}" if error.cause else f"[{error.code}]"
    return failed(code, error.what, cause=cause, evidence=error.seen, try_=try_)


def not_proved(why: str, *evidence: str, try_: str = "") -> CheckResult:
    """Could not be run."""
    return CheckResult(0, "", CheckState.NOT_PROVED, why, evidence=evidence, try_=try_)


def unknown(code: str, error: AgentError) -> CheckResult:
    """Could not be told."""
    return CheckResult(0, "", CheckState.UNKNOWN, error.what, code, error.cause, error.seen, error.try_)


def document(proof: Proof, boot_id: str = "") -> ProofDocument:
    """The proof as everyone may read it."""
    return ProofDocument(
        proof.at, __version__, proof.headline is None,
        _sentence(proof.headline) if proof.headline is not None else "",
        tuple(_check(check) for check in proof.checks), tuple(map(hide, proof.drift)),
        tuple(map(hide, proof.unseen)), proof.pending, proof.unrenewed, proof.versions, boot_id,
    )  # fmt: skip


def body(proof: Proof) -> dict[str, object]:
    """The proof as the body of a JSON answer."""
    return dict(to_json(document(proof)))


def _sentence(check: CheckResult) -> str:
    why = f": {hide(check.cause)}" if check.cause else ""
    return f"check {check.number} ({check.name}) failed: {hide(check.detail)}{why}"


def _check(check: CheckResult) -> CheckResult:
    evidence = tuple(map(hide, check.evidence))
    return replace(check, detail=hide(check.detail), cause=hide(check.cause), evidence=evidence)


def published_since_boot(files: Files) -> bool:
    """Whether what is published was proved since this boot. Raises FileError."""
    return json_files.parsed(files.read(paths.PROOF)).get("boot_id") == _boot_id(files)


def _boot_id(files: Files) -> str:
    """random(4): other after each boot."""
    fact = files.read(_BOOT_ID)
    return fact.content.decode(errors="replace").strip() if fact is not None else ""


def publish(files: Files, proof: Proof) -> None:
    """Write proof.json for everyone to read: no check carries a secret. Raises FileError.

    `doctor` and an inspection may end at the same moment: the later proof stays. What a removal took away
    stays away.
    """
    published = to_document(document(proof, _boot_id(files)))
    found = files.read(paths.PROOF)
    for _ in range(_TRIES - 1):
        try:
            json_files.replace(files, paths.PROOF, published, found=found, mode=0o644)
        except FileChangedError:
            found = files.read(paths.PROOF)
            at = json_files.parsed(found).get("at")
            if found is None or (isinstance(at, int | float) and at > proof.at):
                return
        else:
            return
    json_files.replace(files, paths.PROOF, published, found=found, mode=0o644)
