"""Registries that know one user, for what asks them through `RegistryPorts`; credentials are read as on a
node.
"""

from __future__ import annotations

import base64

from agent.errors import HttpError, PortError
from agent.ports import HttpAnswer, Secret
from agent.proof.registry_access import RegistryPorts
from agent.registry.names import ROOTS_DOCKER, CredentialPlaces
from agent.system.credentials import ChallengeAnswers, DockerCredentials
from tests.fakes.files import FakeFiles
from tests.fakes.processes import FakeProcesses

USER, SECRET = "puller", "s3cr3t-of-the-fleet"
AUTH = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()


class SmallRegistries:
    """All are public but those in `private`, which want USER and SECRET; `answers` are statuses that come
    instead.
    """

    def __init__(self, files: FakeFiles, *private: str, place: str = ROOTS_DOCKER) -> None:
        self.files = files
        self.processes = FakeProcesses()
        self.private = set(private)
        self.answers: dict[str, int | PortError] = {}
        self.digests: dict[str, str] = {}
        """What an image's whole name stands for; others are not there."""
        self.asked: list[tuple[str, str]] = []
        self.ports = RegistryPorts(
            DockerCredentials(files, self.processes, CredentialPlaces((place,))),
            lambda looked: ChallengeAnswers(looked, secure=False),
            self._ask,
        )

    def down(self, registry: str) -> None:
        """It does not answer."""
        self.answers[registry] = HttpError(
            "NNA0821", f"no answer from {registry}", cause="Connection refused"
        )

    def _ask(self, registry: str, path: str, authorization: Secret, _deadline_s: float) -> HttpAnswer:
        self.asked.append((registry, path))
        answer = self.answers.get(registry)
        if isinstance(answer, PortError):
            raise answer
        if answer is not None:
            return HttpAnswer(answer, {}, b"")
        if registry in self.private and authorization.reveal() != f"Basic {AUTH}":
            return HttpAnswer(401, {"www-authenticate": 'Basic realm="test"'}, b"")
        digest = next((one for name, one in self.digests.items() if path == _path(name)), "")
        if digest:
            return HttpAnswer(200, {"docker-content-digest": digest}, b"")
        return HttpAnswer(404 if "/manifests/" in path else 200, {}, b"")


def _path(name: str) -> str:
    """Of an image's manifest."""
    repository, _, tag = name.partition("/")[2].replace("@sha256:", "@").replace(":", "@").partition("@")
    return f"/v2/{repository}/manifests/{f'sha256:{tag}' if '@' in name else tag}"
