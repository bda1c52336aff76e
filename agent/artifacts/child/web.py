"""One request at a time over HTTP: redirects by hand, addresses looked at before they are used, nothing from outside
(no proxy variables, no .netrc, no cookies), credentials for one server only.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions
import urllib3.util

from agent.artifacts import addresses
from agent.artifacts.addresses import PORTS, REDIRECTS, origin
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Limits
from agent.artifacts.refusals import Refusal

CHUNK = 16 << 10
"""Bytes per read. A read waits until it has so many, so this is also how finely slowness is seen."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class CutError(Exception):
    """A connection that could not be made or did not last; another try may go better."""

    def __init__(self, refusal: Refusal, *seen: str) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every request of a download."""

    limits: Limits
    home: tuple[str, str, int]
    """Scheme, host and port that get the credential."""
    authorization: str = ""
    ca: str = ""
    loopback: bool = False
    """The source itself is on this machine (a mirror that was configured so), so redirects may stay here."""


@dataclass(frozen=True, slots=True)
class Part:
    """A Content-Range."""

    first: int
    last: int
    total: int


class Answer:
    """Status 200 or 206, and the body that is still to be read."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self._response = response
        self.url = url
        self.status: int = response.status_code
        headers: Mapping[str, str] = response.headers
        self.etag = headers.get("ETag", "")
        self.length = _length(headers)
        self.part = _part(headers.get("Content-Range", ""))
        self.said_part = headers.get("Content-Range", "none")

    def chunks(self, limit: int) -> Iterator[bytes]:
        """The body as it was sent, up to `limit` bytes. Raises CutError."""
        left = limit
        try:
            while left > 0 and (chunk := self._response.raw.read(min(CHUNK, left), decode_content=False)):
                left -= len(chunk)
                yield chunk
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            raise CutError(Refusal.SILENT, shown(self.url)) from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise CutError(Refusal.CUT, shown(self.url), type(error).__name__) from None

    def close(self) -> None:
        """Whatever was not read is not wanted."""
        self._response.close()


class Web:
    """The connections of one thread."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._adapter = _Adapter(rules, self)
        self.asking_since = 0.0
        """When the request began that has no answer yet (CLOCK_MONOTONIC); 0: none has not. Others read it."""
        self.connected = False

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask, and follow where it leads. Raises RefusedError, CutError (also for 5xx)."""
        seen = [url]
        while True:
            response = self._ask(seen[-1], headers)
            status = response.status_code
            if status in REDIRECTS:
                response.close()
                seen.append(_led(seen, response.headers.get("Location", ""), self._rules.limits.redirects))
                continue
            if status in (200, 206):
                return Answer(response, seen[-1])
            response.close()
            raise _refusal(status, seen[-1], response.headers)

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        limits = self._rules.limits
        parts = urlsplit(url)
        sent = {"Accept-Encoding": "identity", "User-Agent": "nydus-agent", **headers}
        if self._rules.authorization and origin(parts) == self._rules.home:
            sent["Authorization"] = self._rules.authorization
        self.connected = False
        self.asking_since = time.monotonic()
        try:
            # Not through a Session: that one reads the whole body of a redirect, even of one that it does not follow.
            request = requests.Request("GET", url, headers=sent).prepare()
            return self._adapter.send(request, stream=True, timeout=(limits.connect_s, limits.silence_s), verify=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise _understood(error, url) from None
        except ValueError as error:  # a URL or a header that http.client cannot send or read
            raise RefusedError(Refusal.NOT_HTTP, shown(url), str(error)) from None
        finally:
            self.asking_since = 0.0


def shown(url: str) -> str:
    """A URL without what may be a secret: signatures are in queries, passwords before the host."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a malformed URL"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _led(seen: list[str], location: str, limit: int) -> str:
    """Where a redirect leads. Raises RefusedError."""
    here = seen[-1]
    try:
        target = urljoin(here, location)
        parts = urlsplit(target)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise RefusedError(Refusal.REDIRECT_NOWHERE, shown(here), "Location is no URL") from None
    told = (shown(here), f"Location: {shown(target)}")
    if parts.scheme not in PORTS:
        raise RefusedError(Refusal.REDIRECT_SCHEME, *told)
    if not location or not host:
        raise RefusedError(Refusal.REDIRECT_NOWHERE, *told)
    if urlsplit(here).scheme == "https" and parts.scheme == "http":
        raise RefusedError(Refusal.REDIRECT_DOWNGRADE, *told)
    # What stands before the host is dropped: requests would send it as credentials.
    host = f"[{host}]" if ":" in host else host
    target = parts._replace(netloc=host if port is None else f"{host}:{port}", fragment="").geturl()
    if target in seen:
        raise RefusedError(Refusal.REDIRECT_LOOP, *told)
    if len(seen) > limit:
        raise RefusedError(Refusal.REDIRECT_COUNT, *told, f"{limit} were followed")
    return target


def _refusal(status: int, url: str, headers: Mapping[str, str]) -> Exception:
    seen = [shown(url), f"status {status}"]
    if status in (404, 410):
        return RefusedError(Refusal.NOT_FOUND, *seen)
    if status in (401, 403, 407):
        return RefusedError(Refusal.NOT_ALLOWED, *seen)
    if status == 429:
        later = headers.get("Retry-After", "")
        return RefusedError(Refusal.TOO_MANY_REQUESTS, *seen, *([f"Retry-After: {later}"] if later else []))
    if status == 416:
        return RefusedError(Refusal.RANGE, *seen)
    if status >= 500:
        return CutError(Refusal.SERVER_ERROR, *seen)
    return RefusedError(Refusal.STATUS, *seen)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and all that it was made from, the inner ones last. urllib3 and requests keep them in `args`."""
    found, waiting = list[BaseException](), list[object]([error])
    while waiting and len(found) < 16:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found


def _understood(error: Exception, url: str) -> Exception:
    """What an error of requests means for a download."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return RefusedError(Refusal.TLS, shown(url), _story(cause))
    for cause in causes:
        if isinstance(cause, http.client.HTTPException) and "got more than" in str(cause):
            status = "status line" in str(cause)
            return RefusedError(Refusal.NOT_HTTP if status else Refusal.HEADERS, shown(url), _story(cause))
        if isinstance(cause, http.client.RemoteDisconnected | ConnectionResetError):
            return CutError(Refusal.CUT, shown(url), "the connection ended before an answer came")
        if isinstance(cause, http.client.HTTPException | urllib3.exceptions.HeaderParsingError):
            return RefusedError(Refusal.NOT_HTTP, shown(url), _story(cause))
        if isinstance(cause, TimeoutError | requests.ReadTimeout):
            return CutError(Refusal.SILENT, shown(url), "no answer came")
    return CutError(Refusal.CUT, shown(url), _story(error))


def _story(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _length(headers: Mapping[str, str]) -> int | None:
    """Content-Length, None where there is none. Raises RefusedError."""
    told = headers.get("Content-Length")
    if told is None:
        return None
    if not re.fullmatch(r"\d{1,18}", told, re.ASCII):
        raise RefusedError(Refusal.NOT_HTTP, f"Content-Length: {told}")
    return int(told)


def _part(told: str) -> Part | None:
    found = _CONTENT_RANGE.fullmatch(told)
    return None if found is None else Part(int(found[1]), int(found[2]), int(found[3]))


class _Adapter(requests.adapters.HTTPAdapter):
    """requests over connections that look where they go."""

    def __init__(self, rules: Rules, web: Web) -> None:
        self._rules, self._web = rules, web
        super().__init__(pool_connections=2, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *arguments: object, **kwargs: object) -> None:
        """See requests."""
        if self._rules.ca:
            context = urllib3.util.create_urllib3_context()
            try:
                context.load_verify_locations(cadata=self._rules.ca)
            except ssl.SSLError as error:
                raise RefusedError(Refusal.TLS, f"the CA that was given cannot be used: {_story(error)}") from None
            kwargs["ssl_context"] = context
        super().init_poolmanager(*arguments, **kwargs)  # type: ignore[no-untyped-call]  # requests has no types
        self.poolmanager.pool_classes_by_scheme = _pools(self._rules, self._web)


def _pools(rules: Rules, web: Web) -> dict[str, type]:
    class Plain(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self.host, self.port, rules, web)

    class Tls(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self.host, self.port, rules, web)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}


def _connect(host: str, port: int, rules: Rules, web: Web) -> socket.socket:
    """A connection to an address that was looked at, not to a name that might mean another one a moment later.

    Raises RefusedError, CutError.
    """
    found = addresses_of(host, port)
    for address in found:
        refusal = addresses.refusal_of(address, loopback=rules.loopback)
        if refusal is not None:
            raise RefusedError(refusal, f"{host} is {address}" if host != address else address)
    problem = ""
    for address in found:
        try:
            connection = socket.create_connection((address, port), timeout=rules.limits.connect_s)
        except OSError as error:
            problem = f"{address} port {port}: {error.strerror or error}"
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        web.connected = True
        return connection
    raise CutError(Refusal.UNREACHABLE, problem)


def addresses_of(host: str, port: int) -> tuple[str, ...]:
    """All addresses of a name, in the system's order. Raises CutError."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CutError(Refusal.UNREACHABLE, f"{host}: {error}") from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
