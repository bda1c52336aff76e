"""Requests to one registry: who we are where it asks, redirects by hand, nothing from the environment (no proxy
variables, no .netrc, no cookies), and every failure with what the registry said.

Requests are tried again, with growing pauses; a write only after it was asked what became of it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from agent.adapters.tls import context
from agent.artifacts.addresses import PORTS, REDIRECTS, innermost, origin, refusal_of
from agent.errors import RegistryError
from agent.outside_json import json_value
from agent.ports_credentials import RegistryTokens

PIECE = 64 << 10
"""Bytes per read of a body."""
_MOST_REDIRECTS = 5
_TOKEN_S = 30.0
_TRIES, _LONGEST_PAUSE_S = 4, 15.0
_LONGEST_WAIT_S = 60.0
"""What a registry that counts requests may ask for (Retry-After); who wants more is told to the caller at once."""
_TOLD = 300  # characters of what a registry says


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a registry is given."""

    connect_s: float = 10.0
    """For a connection, and then for each block that is sent."""
    silence_s: float = 60.0
    """Between two blocks of an answer."""
    pause_s: float = 0.5
    """Before a second try; the pauses grow."""


class Body(Protocol):
    """The body of a request that is read while it is sent, and from its beginning for each time that it is sent."""

    def begin(self) -> Iterable[bytes]:
        """Its pieces; it has a length, too."""


class CutError(Exception):
    """No answer, or one that broke off: it may go better another time."""

    def __init__(self, cause: str, *, wait_s: float = 0.0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.wait_s = wait_s
        """How long the other side wants to be left alone."""


class Answer:
    """A status, headers, and a body that is read in pieces."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self._response = response
        self.url = url
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def pieces(self, most: int) -> Iterator[bytes]:
        """The body as it was sent, at most `most` bytes of it. Raises CutError."""
        left = most
        try:
            while left > 0 and (piece := self._response.raw.read(min(PIECE, left), decode_content=False)):
                left -= len(piece)
                yield piece
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise CutError(_plainly(error)) from None

    def body(self, cap: int) -> bytes:
        """The whole body. Raises CutError, and RegistryError (NNA1414) where it is longer than `cap`."""
        content = b"".join(self.pieces(cap + 1))
        if len(content) > cap:
            raise RegistryError(
                "NNA1414", f"the answer of {shown(self.url)} is too long", cause=f"more than {cap} bytes"
            )
        return content

    def close(self) -> None:
        """What was not read is not wanted; where nothing is left, the connection serves the next request too."""
        with contextlib.suppress(urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
            if self._response.raw.length_remaining == 0:
                self._response.raw.read(1)  # its end gives the connection back
        self._response.close()


class RegistryHttp:
    """One registry. `tokens` answers what it asks for; `ca` is a file, "" the system's store."""

    def __init__(
        self, host: str, *, secure: bool, ca: str, tokens: RegistryTokens, times: Times | None = None
    ) -> None:  # fmt: skip
        self._times = times or Times()
        self._base = f"{'https' if secure else 'http'}://{host}"
        self._home = origin(urlsplit(self._base))
        self._tokens = tokens
        self._adapter = _Verified(ca)

    def read(
        self,
        method: str,
        path: str,
        scopes: Sequence[str],
        *,
        ok: Sequence[int],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """GET or HEAD, tried again where no answer comes or the server is in trouble. Raises RegistryError."""
        answer = self._tried(method, path, scopes, headers, None, lambda: False)
        assert answer is not None
        if answer.status not in ok:
            raise refused(method, answer, said(answer))
        return answer

    def write(
        self,
        method: str,
        path: str,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str],
        body: bytes,
        arrived: Callable[[], bool],
    ) -> Answer | None:
        """POST or PUT. Where no answer comes, or the server is in trouble, it is sent again only if `arrived` says that
        it was not done; None where it says that it was. One that was not looked at, because the registry counts
        requests (429; RFC 6585, section 4), is sent again as it is. Raises RegistryError, CredentialError."""
        return self._tried(method, path, scopes, headers, body, arrived)

    def _tried(
        self,
        method: str,
        path: str,
        scopes: Sequence[str],
        headers: Mapping[str, str] | None,
        body: bytes | None,
        arrived: Callable[[], bool],
    ) -> Answer | None:
        for tries in range(1, _TRIES + 1):
            wait_s, looked_at = 0.0, True
            try:
                answer = self.once(method, path, scopes, headers=headers, body=body)
            except CutError as error:
                cause = error.cause
            else:
                if answer.status < 500 and answer.status != 429:
                    return answer
                wait_s, looked_at = wait_of(answer), answer.status != 429
                cause = in_words(answer, said(answer))
            if wait_s > _LONGEST_WAIT_S:
                cause = f"{cause}, and to be asked again after {wait_s:.0f} s"
                break
            if tries < _TRIES:
                self.pause(tries, wait_s)
            if looked_at and arrived():
                return None
        asked = f"{method} {shown(urljoin(self._base, path))}"
        raise RegistryError("NNA1411", f"no good answer from {self._base}", cause=cause, seen=(asked,))

    def pause(self, tries: int, least_s: float = 0.0) -> None:
        """Before another try, after so many; `least_s` is what the registry asked for."""
        time.sleep(max(min(self._times.pause_s * 3 ** (tries - 1), _LONGEST_PAUSE_S), min(least_s, _LONGEST_WAIT_S)))

    def once(
        self,
        method: str,
        path: str,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
    ) -> Answer:
        """One request, sent again only where it was not let in (401), and where it is led elsewhere.

        `path` may be a URL that the registry gave. Raises CutError, RegistryError (NNA1414), CredentialError.
        """
        url, asked, seen = urljoin(self._base, path), False, 0
        while True:
            answer = self._send(method, url, scopes, dict(headers or {}), body)
            if answer.status == 401 and not asked and origin(urlsplit(url)) == self._home:
                answer.close()
                self._tokens.answer(answer.headers.get("WWW-Authenticate", ""), scopes, deadline_s=_TOKEN_S)
                asked = True
                continue
            if answer.status not in REDIRECTS or method not in ("GET", "HEAD"):
                return answer
            answer.close()
            seen += 1
            url = self._led(url, answer.headers.get("Location", ""), seen)

    def _send(
        self, method: str, url: str, scopes: Sequence[str], headers: dict[str, str], body: bytes | Body | None
    ) -> Answer:  # fmt: skip
        sent = {"User-Agent": "nydus-agent", "Accept-Encoding": "identity", **headers}
        known = self._tokens.known(scopes)
        if known and origin(urlsplit(url)) == self._home:
            sent["Authorization"] = known.reveal()
        try:
            data = body if body is None or isinstance(body, bytes) else body.begin()
            request = requests.Request(method, url, headers=sent, data=data).prepare()
            times = (self._times.connect_s, self._times.silence_s)
            response = self._adapter.send(request, stream=True, timeout=times, verify=True)
        except requests.exceptions.SSLError as error:
            raise RegistryError("NNA1411", f"no TLS with {shown(url)}", cause=_plainly(error)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise CutError(_plainly(error)) from None
        except ValueError:
            raise RegistryError("NNA1414", f"cannot ask {shown(url)}", cause="it is no URL that can be asked") from None
        return Answer(response, url)

    def _led(self, here: str, location: str, count: int) -> str:
        """Where a redirect leads. Raises RegistryError."""

        def no(cause: str) -> RegistryError:
            return RegistryError("NNA1414", f"a redirect of {shown(here)} is not followed", cause=cause)

        try:
            target = urljoin(here, location)
            parts = urlsplit(target)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise no("it leads to no URL") from None
        if parts.scheme not in PORTS or not host or not location or "@" in parts.netloc:
            raise no("it leads to no URL that is asked")
        if urlsplit(here).scheme == "https" and parts.scheme == "http":
            raise no("it leads out of https")
        if count > _MOST_REDIRECTS:
            raise no(f"{_MOST_REDIRECTS} were followed")
        if origin(parts) != self._home and (address := _private_address(host)):
            raise no(f"{host} is {address}: this machine, or its network's own services")
        return target

    def is_home(self, url: str) -> bool:
        """Whether a URL is one of this registry itself."""
        try:
            return origin(urlsplit(url)) == self._home
        except ValueError:
            return False

    def place(self, answer: Answer, what: str) -> str:
        """The URL that an answer names as Location. Raises RegistryError (NNA1414)."""
        location = answer.headers.get("Location", "")
        if not location:
            raise RegistryError("NNA1414", f"{self._base} says nothing of where {what} is", cause="no Location")
        return self._led(answer.url, location, 0)


def refused(method: str, answer: Answer, told: str) -> RegistryError:
    """For a status that is not what was asked for."""
    return RegistryError(
        "NNA1412", f"{method} {shown(answer.url)}: status {answer.status}", cause=told or "it does not say why"
    )


def in_words(answer: Answer, told: str) -> str:
    """A status, and what the registry says with it."""
    return f"status {answer.status}{told and f': {told}'}"


def said(answer: Answer) -> str:
    """What a registry says is wrong (distribution-spec, "Error codes"), then the answer is closed."""
    found: object = None
    with contextlib.suppress(CutError, RegistryError, ValueError):
        found = json_value(answer.body(64 << 10))
    answer.close()
    errors = found.get("errors") if isinstance(found, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return ""
    return ": ".join(str(first[key])[:_TOLD] for key in ("code", "message") if first.get(key))


def wait_of(answer: Answer) -> float:
    """Seconds of a Retry-After (RFC 9110, section 10.2.3); 0 where there is none, or a date."""
    told = answer.headers.get("Retry-After", "").strip()
    return float(told) if told.isascii() and told.isdigit() and len(told) < 9 else 0.0


def shown(url: str) -> str:
    """A URL without what may be a secret: signatures and states of uploads are in queries."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "a malformed URL"


def _private_address(host: str) -> str:
    """The address of a name where a redirect must not lead."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ""  # the connection will say so
    every = (str(entry[4][0]) for entry in found)
    return next((str(innermost(one)) for one in every if refusal_of(one, loopback=False) is not None), "")


def _plainly(error: BaseException) -> str:
    """Not the error's own text where that may hold the whole URL."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate does not verify, or it speaks no TLS"
    if isinstance(error, requests.Timeout | TimeoutError | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        inner = error.args[0] if error.args else None
        reason = getattr(inner, "reason", inner)
        return f"no connection, or one that broke ({type(reason).__name__})"
    return f"the connection broke ({type(error).__name__})"


class _Verified(requests.adapters.HTTPAdapter):
    """TLS as all of the agent's: the system's store or the registry's own CA."""

    def __init__(self, ca: str) -> None:
        self._context = context(ca)
        super().__init__(pool_connections=2, pool_maxsize=2, max_retries=0)

    def init_poolmanager(self, *arguments: object, **named: object) -> None:
        """See requests."""
        super().init_poolmanager(*arguments, **named, ssl_context=self._context)  # type: ignore[no-untyped-call]  # requests has no types
