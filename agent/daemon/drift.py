"""Notices that others change what was applied, asks root for an inspection, and tells what that has found.

No polling: inotify tells of files, and of systemd's own marks of units that run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from agent import paths
from agent.codec import try_from_json
from agent.daemon.documents import Document, LastProof
from agent.daemon.settings import Places
from agent.documents.drift import Expected, Finding, Kind, findings_of
from agent.health.state import HealthState
from agent.plan import unit_files
from agent.ports import Watch

_SETTLE_S = 1.0
"""Changes come in groups (a package's files, an editor's renames): one request for all of them."""
_TELL_S = 15.0
"""A change that cannot be judged is told when no proof has seen it for this long, and no `apply` is under
way: it writes these files too.
"""
_REWATCH_S = 60.0
"""Directories that were not there are looked for again."""
_AGAIN_S = 60.0
"""Between two proofs that are asked for because the mirror is well again: some faults are no mirror's."""
_DOWN_S = 2.0
"""A unit that is restarted is inactive for a moment."""
_ACTIVE = "/run/systemd/units"
"""systemd keeps a link there for each unit that is not inactive or failed (unit_export_invocation_id)."""
_REQUEST = "drift"


class Drift:
    """The watched files, what is known to be wrong with them, and the request for an inspection."""

    def __init__(
        self, watch: Watch, changer: Callable[[], int], containerd_config: str, places: Places
    ) -> None:
        self._watch = watch
        self._changer = changer
        self._places = places
        self._request_dir = Path(places.requests)
        self._containerd_config = containerd_config
        self._expected_file = Document(places.expected, places.owner)
        self._root_file = Document(places.drift, places.owner)
        self._expected: Expected | None = None
        self._down_at: float | None = None
        """When a unit that is inactive counts as one that does not run."""
        self._due_at: float | None = None
        self._again_at = float("-inf")
        self._rewatch_at = float("-inf")
        self.findings: tuple[Finding, ...] = ()
        """What is not as it was applied, as far as anybody has seen it."""
        self.gave_up: tuple[str, ...] = ()
        """Repairs that were undone again and again, in words."""
        self.changed: tuple[str, ...] = ()
        """What was changed since the last proof and nobody has judged, once it is worth telling."""
        self._unproved: tuple[str, ...] = ()
        self._tell_at = float("inf")
        self.changed_at = 0.0
        """Seconds since the epoch."""

    def maintain(self, now: float, health_state: HealthState, since: float, proof: LastProof) -> bool:
        """Once a second. Whether an inspection was asked for. `since`: when the health state changed last, by
        the epoch.
        """
        self.refresh(now)
        self.proved(proof.at)
        self.judged(health_state, since, proof, now)
        try:
            return self.ask(now)
        except OSError:
            return False  # a full or missing /run; the timer inspects all the same

    def refresh(self, now: float) -> None:
        """Watch what has come to be there."""
        if now >= self._rewatch_at:
            self._rewatch_at = now + _REWATCH_S
            self._read()
            for directory in self._directories():
                self._watch.add(directory)

    def read_changes(self, now: float, epoch: float) -> bool:
        """Take notice of what changed; whether something else is known to be wrong than before. Called when
        the watch's descriptor is readable.
        """
        events = self._watch.changed()
        found = tuple(path for path in events if self._concerns_us(path))
        if found:
            self._tell_at = min(self._tell_at, now + _TELL_S)
            self._unproved = tuple(dict.fromkeys([*self._unproved, *found]))[:20]
            self.changed_at = epoch
            self._due_at = now + _SETTLE_S
            self._rewatch_at = now
            self.refresh(now)  # a directory that was made just now may hold something already
        if active_link() in events:
            self._down_at = now + _DOWN_S
        documents = (self._places.expected, self._places.drift)
        if not any(path in documents for path in events):
            return False
        self._rewatch_at = now
        return self._read()

    def proved(self, proved_at: float | None) -> None:
        """A proof that began after the last change has seen it."""
        if proved_at is not None and proved_at > self.changed_at:
            self.changed = self._unproved = ()
            self._tell_at = float("inf")

    def judged(self, health_state: HealthState, since: float, proof: LastProof, now: float) -> None:
        """Have the checks run anew where a check failed before the mirror was well (`since`, by the epoch):
        else `status` tells that fault until the timer's next turn, minutes after it has gone.
        """
        well = health_state is HealthState.HEALTHY
        if well and proof.failed and proof.at is not None and proof.at < since and now >= self._again_at:
            self._again_at, self._due_at = now + _AGAIN_S, now + _SETTLE_S

    def ask(self, now: float) -> bool:
        """Put the request for an inspection down once the changes have settled; whether that was done now."""
        if now >= self._tell_at and self._changer():
            self._tell_at = now + _SETTLE_S  # it proves at its end, which a slow node is long in coming to
        elif now >= self._tell_at:
            self.changed = self._unproved
        if self._down_at is not None and now >= self._down_at:
            self._down_at = None
            told = any(one.kind is Kind.UNIT_DOWN for one in self.findings)
            self._due_at = now if self._is_down() is not told else self._due_at
        if self._due_at is None or now < self._due_at:
            return False
        self._due_at = None
        return self.request()

    def request(self) -> bool:
        """Put the request down: an empty file whose existence is all that anybody looks at.

        Raises OSError.
        """
        self._request_dir.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(
            self._request_dir / _REQUEST, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        os.close(descriptor)
        return True

    def _read(self) -> bool:
        """What root has published; whether `findings` or `gave_up` are others than before."""
        before = self.findings, self.gave_up
        self._expected = try_from_json(Expected, self._expected_file.load())
        document = (self._root_file.load() if self._expected is not None else None) or {}
        self.findings = findings_of(document.get("findings"))
        given = document.get("gave_up")
        self.gave_up = tuple(str(one)[:1000] for one in given[:20]) if isinstance(given, list) else ()
        return (self.findings, self.gave_up) != before

    def _is_down(self) -> bool:
        return not os.path.lexists(self._at(active_link()))

    def _at(self, path: str) -> str:
        return path if self._places.root == "/" else str(Path(self._places.root) / path.lstrip("/"))

    def _files(self) -> set[str]:
        expected = self._expected
        known = {
            paths.NYDUSD_TEMPLATE,
            paths.SNAPSHOTTER_CONFIG,
            paths.SNAPSHOTTER_UNIT_FILE,
            self._containerd_config,
        }
        if expected is None:
            return known
        return known.union(expected.files, (one.path for one in expected.programs))

    def _directories(self) -> Iterator[str]:
        yield from sorted({str(Path(path).parent) for path in self._files()})
        yield paths.CERTS_D
        try:
            with os.scandir(paths.CERTS_D) as entries:
                yield from (entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            pass
        yield from unit_files.DIRECTORIES
        yield from unit_files.drop_in_directories()
        yield str(Path(active_link()).parent)
        yield str(Path(self._places.expected).parent)

    def _concerns_us(self, path: str) -> bool:
        if path in self._files() or path.startswith(f"{paths.CERTS_D}/"):
            return True
        return bool(unit_files.unit_of(path)) or path in unit_files.drop_in_directories()


def active_link() -> str:
    """The link that systemd keeps while the snapshotter's unit is active."""
    return f"{_ACTIVE}/invocation:{paths.SNAPSHOTTER_UNIT}"
