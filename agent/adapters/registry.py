"""Images in a registry, by the OCI distribution-spec: what is read is hashed, what is written is asked about."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from agent.adapters.registry_http import Answer, CutError, RegistryHttp, refused, said
from agent.adapters.registry_upload import TRIES, Begun, PiecesError, Upload, again_and_again
from agent.errors import AgentError, CredentialError, RegistryError
from agent.oci import formats
from agent.oci.formats import Descriptor
from agent.oci.nydus import Blob
from agent.oci.reference import Reference
from agent.ports_convert import Document, Tell
from agent.registry.challenge import pull_scope

CHUNK = 8 << 20
"""Bytes of a piece of an upload: what is sent again at most where one breaks off."""
_NOT_FROM_THERE = (401, 403, 404, 405)
"""What registries answer to a mount from a repository that we may not read, that is not there, or at all."""


class RegistrySource:
    """A repository that is read."""

    def __init__(self, http: RegistryHttp, reference: Reference) -> None:
        self._http = http
        self._base = f"/v2/{reference.repository}"
        self._scopes = (pull_scope(reference.repository),)

    def document(self, named: str, cap: int) -> Document:
        """See ports_convert.Source."""
        accept = {"Accept": ", ".join(formats.ACCEPTED)}
        answer, content = self._whole(f"manifests/{named}", f"the manifest {named}", cap, accept)
        digest = formats.digest_of(content)
        if named.startswith("sha256:") and digest != named:
            raise _other_bytes(named, f"what came has the digest {digest}")
        return Document(content, answer.headers.get("Content-Type", "").partition(";")[0].strip(), digest)

    def small(self, blob: Descriptor, cap: int) -> bytes:
        """See ports_convert.Source."""
        if blob.size > cap:
            raise RegistryError("NNA1414", f"{blob.digest} is too long", cause=f"{blob.size} bytes, at most {cap}")
        _, content = self._whole(f"blobs/{blob.digest}", blob.digest, cap, {})
        if len(content) != blob.size or formats.digest_of(content) != blob.digest:
            raise _other_bytes(blob.digest, f"{len(content)} bytes of {formats.digest_of(content)}")
        return content

    def _whole(self, path: str, what: str, cap: int, headers: Mapping[str, str]) -> tuple[Answer, bytes]:
        """An answer and all of its body. Raises RegistryError."""
        try:
            answer = self._http.read("GET", f"{self._base}/{path}", self._scopes, ok=(200,), headers=headers)
            content = answer.body(cap)
        except CutError as error:
            raise RegistryError("NNA1411", f"{what} broke off", cause=error.cause) from None
        answer.close()
        return answer, content

    def fetch(self, blob: Descriptor, path: str, tell: Tell) -> None:
        """See ports_convert.Source. What breaks off goes on where it was."""
        with open(path, "xb") as file:
            download = _Download(file, blob.size, tell)
            tries = 0
            while not download.complete:
                before = download.done
                try:
                    self._read_on(blob, download)
                except CutError as error:
                    tries = 1 if download.done > before else tries + 1
                    if tries >= TRIES:
                        raise RegistryError(
                            "NNA1411", f"{blob.digest} broke off again and again", cause=error.cause
                        ) from None
                    self._http.pause(tries)
            if download.digest != blob.digest:
                raise _other_bytes(blob.digest, f"what came has the digest {download.digest}")

    def _read_on(self, blob: Descriptor, download: _Download) -> None:
        """Raises CutError, RegistryError."""
        part = {"Range": f"bytes={download.done}-"} if download.done else {}
        answer = self._http.read("GET", f"{self._base}/blobs/{blob.digest}", self._scopes, ok=(200, 206), headers=part)
        with contextlib.closing(answer):
            if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(
                f"bytes {download.done}-"
            ):
                raise RegistryError("NNA1414", f"another part of {blob.digest} came than was asked for")
            if answer.status == 200 and download.done:
                download.restart()
            for piece in answer.pieces(blob.size - download.done + 1):
                download.take(piece)
            if download.done > blob.size:
                raise _other_bytes(blob.digest, f"more than {blob.size} bytes came")
            if not download.complete:
                raise CutError(f"{download.done} of {blob.size} bytes came")


class _Download:
    def __init__(self, file: BinaryIO, size: int, tell: Tell) -> None:
        self._file, self._size, self._tell = file, size, tell
        self._hash = hashlib.sha256()
        self.done = 0

    @property
    def complete(self) -> bool:
        return self.done == self._size

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def take(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hash.update(piece)
        self.done += len(piece)
        self._tell(self.done)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.done = 0


class RegistryTarget:
    """A repository that is written. `note` hears the URL of the upload that is open, "" when none is."""

    def __init__(
        self, http: RegistryHttp, reference: Reference, note: Callable[[str], None], *, chunk: int = CHUNK
    ) -> None:
        self._http, self._chunk = http, chunk
        self._reference = reference
        self._base = f"/v2/{reference.repository}"
        self._scopes = (pull_scope(reference.repository, push=True),)
        self._note = note
        self._whole = False

    def has(self, digest: str) -> bool:
        """See ports_convert.Target."""
        answer = self._http.read("HEAD", f"{self._base}/blobs/{digest}", self._scopes, ok=(200, 404))
        answer.close()
        return answer.status == 200

    def mount(self, digest: str, repository: str) -> bool:
        """See ports_convert.Target."""
        if repository == self._reference.repository:
            return False
        path = f"{self._base}/blobs/uploads/?mount={digest}&from={quote(repository, safe='')}"
        try:
            answer = self._post(path, (*self._scopes, pull_scope(repository)))
        except CredentialError:  # no token for both: whoever may not read the other one can still send to this one
            return False
        if answer.status == 201:
            return True
        if answer.status == 202:  # an upload was begun instead
            self.drop(self._http.place(answer, "an upload"))
            return False
        told = said(answer)
        if answer.status in _NOT_FROM_THERE:
            return False
        raise refused("POST", answer, told)

    def push(self, blob: Blob, path: str, tell: Tell) -> None:
        """See ports_convert.Target."""
        with open(path, "rb") as file:
            upload = Upload(self._http, self._begin, self._scopes)
            try:
                self._send(upload, file, blob, tell)
            except BaseException:
                with contextlib.suppress(AgentError):
                    self.drop(upload.url)
                raise
            finally:
                self._note("")

    def _send(self, upload: Upload, file: BinaryIO, blob: Blob, tell: Tell) -> None:
        """In pieces, until the registry shows that it does not take them; whole then, and all that follow too."""
        cause = ""
        for tries in range(TRIES):
            if tries:
                with contextlib.suppress(AgentError):
                    self.drop(upload.url)
                upload.begin_anew()
            self._note(upload.url)
            try:
                if self._whole:
                    upload.send(file, blob.size, tell)
                else:
                    upload.send_in_pieces(file, blob.size, self._chunk, tell, self._note)
                if self._finish(upload, blob.digest, b""):
                    return
                cause = "what came is not what was sent"
            except PiecesError as error:
                self._whole, cause = True, error.cause
            except CutError as error:
                cause = error.cause
                self._http.pause(tries + 1, error.wait_s)
        raise again_and_again(cause)

    def push_bytes(self, content: bytes) -> None:
        """See ports_convert.Target."""
        digest = formats.digest_of(content)
        if not self.has(digest):
            self._finish(Upload(self._http, self._begin, self._scopes), digest, content)

    def put(self, named: str, media_type: str, content: bytes) -> None:
        """See ports_convert.Target."""
        path, headers = f"{self._base}/manifests/{named}", {"Content-Type": media_type}
        there = RegistrySource(self._http, self._reference)

        def arrived() -> bool:
            with contextlib.suppress(RegistryError):
                return there.document(named, formats.DOCUMENT_CAP).content == content
            return False

        answer = self._http.write("PUT", path, self._scopes, headers=headers, body=content, arrived=arrived)
        if answer is None:
            return
        if answer.status not in (200, 201, 202):
            raise refused("PUT", answer, said(answer))
        answer.close()
        found = there.document(named, formats.DOCUMENT_CAP)
        if found.content != content:
            raise RegistryError(
                "NNA1413", f"{self._reference.repository}:{named} is not what was sent", cause=found.digest
            )

    def drop(self, session: str) -> None:
        """See ports_convert.Target. Of another registry's, or another repository's, nothing is asked."""
        ours = self._http.is_home(session) and urlsplit(session).path.startswith(f"{self._base}/blobs/uploads/")
        if not ours:
            return
        try:
            self._http.once("DELETE", session, self._scopes).close()
        except CutError as error:
            raise RegistryError("NNA1411", "an upload could not be ended", cause=error.cause) from None

    def _begin(self) -> Begun:
        answer = self._post(f"{self._base}/blobs/uploads/", self._scopes)
        if answer.status != 202:
            raise refused("POST", answer, said(answer))
        answer.close()
        return Begun(self._http.place(answer, "an upload"), answer.headers.get("OCI-Chunk-Min-Length", ""))

    def _post(self, path: str, scopes: tuple[str, ...]) -> Answer:
        """An upload that was begun without our hearing of it holds nothing: another one can be begun."""
        headers = {"Content-Length": "0"}
        answer = self._http.write("POST", path, scopes, headers=headers, body=b"", arrived=lambda: False)
        assert answer is not None
        return answer

    def _finish(self, upload: Upload, digest: str, content: bytes) -> bool:
        """Whether it is there; False: it has to be sent once more. Raises PiecesError, RegistryError."""
        answer = upload.finish(digest, content, lambda: self.has(digest))
        if answer is None:
            return True
        if answer.status == 201:
            answer.close()
            return True
        told = said(answer)
        if self.has(digest):  # an end that was not answered, and sent again before it was done; or another 2xx
            return True
        if upload.is_lost(answer.status):
            return False
        if upload.in_pieces:
            raise PiecesError(f"status {answer.status} to the end of the upload{told and f': {told}'}")
        raise refused("PUT", answer, told)


def _other_bytes(digest: str, cause: str) -> RegistryError:
    return RegistryError("NNA1413", f"{digest} is not what the registry sent", cause=cause)
