"""An HTTP world of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.errors import HttpError
from agent.ports import HttpAnswer


@dataclass(frozen=True)
class Request:
    """What was asked."""

    url: str
    proxy: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    unix_socket: str = ""


Handler = Callable[[Request], HttpAnswer]


def answer(status: int = 200, body: bytes = b"", **headers: str) -> HttpAnswer:
    """An answer; `content_type="text/plain"` becomes the header content-type."""
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return HttpAnswer(status, {"content-length": str(len(body)), **named}, body)


class FakeHttp:
    """Answers by (proxy or socket, beginning of the URL); nobody there: HttpError, as a refused connection.

    A proxy is a route of its own: `on(url, …, via="http://127.0.0.1:4001")`.
    """

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self._routes: list[tuple[str, str, Handler]] = []

    def on(self, url: str, what: HttpAnswer | HttpError | Handler, *, via: str = "") -> None:
        """Requests whose URL begins so are answered by `what`; the newest matching route wins."""
        self._routes.insert(0, (via, url, what if callable(what) else _constant(what)))

    def get(
        self,
        url: str,
        *,
        deadline_s: float,
        proxy: str = "",
        headers: Mapping[str, str] | None = None,
        body_cap: int = 65536,
        unix_socket: str = "",
    ) -> HttpAnswer:
        request = Request(url, proxy, dict(headers or {}), unix_socket)
        self.asked.append(request)
        for via, start, handler in self._routes:
            if via == (proxy or unix_socket) and url.startswith(start):
                found = handler(request)
                if len(found.body) > body_cap:
                    raise HttpError(
                        "NNA0821", f"the answer of {url} is too long", cause=f"over {body_cap} bytes"
                    )
                return found
        raise HttpError(
            "NNA0821", f"no answer from {proxy or unix_socket or url}", cause="connection refused"
        )


def _constant(what: HttpAnswer | HttpError) -> Handler:
    def handler(_request: Request) -> HttpAnswer:
        if isinstance(what, HttpError):
            raise what
        return what

    return handler
