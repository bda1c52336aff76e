"""The daemon's life: listeners, sessions, signals, the start and the end as systemd sees them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

from agent import __version__
from agent.config.model import Config
from agent.daemon import metrics, past, publish, readiness
from agent.daemon.canary import CanaryObject
from agent.daemon.documents import Applied, Document, applied
from agent.daemon.drift import Drift
from agent.daemon.endpoint import HttpServer, Response
from agent.daemon.loop import End, Session
from agent.daemon.memory import MemoryFile, known_to
from agent.daemon.messages import Message
from agent.daemon.picture import Problems, marks, quiet, view_of
from agent.daemon.record import Record
from agent.daemon.settings import Places, Settings, settings
from agent.daemon.stopping import being_restarted
from agent.daemon.turning import Loop, Timer
from agent.daemon.view import View
from agent.errors import ConfigError, FenceError, PortError
from agent.health.evidence import AgentInWant, Mode
from agent.health.state import HealthState, State
from agent.node.machine import node_identity
from agent.ports_daemon import DaemonPorts

_LISTEN_AGAIN_S = 5.0
_QUIET_S = 4.0
"""Between two publications while nothing goes on. Readers take 10 s of silence for an accident."""
_LOOPBACK = "127.0.0.1"


class Service:
    """The whole daemon. `load` reads the operator's configuration and raises ConfigError.

    Where that is wrong from the start, the defaults do, with what `apply` has set up: a daemon that guards the mirror
    which is in use is better than none. A condition says so, and a reload takes the mended one.
    """

    def __init__(self, loop: Loop, load: Callable[[], Config], ports: DaemonPorts, places: Places) -> None:
        self._loop = loop
        self._load = load
        self._config_problem = ""
        self._defaults = False
        """No configuration could be read yet."""
        self._config = self._first()
        self._ports = ports
        self._places = places
        self._record = Record()
        self._memory_file = MemoryFile(places.memory)
        self._drift = Drift(ports.watch, self._config.containerd.config, places)
        self._object = CanaryObject()
        self._endpoint = HttpServer(loop, self._public, self._broken, lacks=self._lack)
        self._spare = HttpServer(loop, self._canary_only, self._broken, lacks=self._lack)
        self._api = HttpServer(loop, self._local, self._broken, check_host=False)
        self._metrics = HttpServer(loop, self._metrics_only, self._broken, check_host=False)
        self._listening: Timer | None = None
        self._port_problem = ""
        self._session: Session | None = None
        self._view: View | None = None
        self._viewed_at = 0.0
        self._marks: tuple[object, ...] = ()
        self._turned_at = 0.0
        self._encoder = publish.Encoder()
        self._unpublished = ""
        """The bug that keeps status.json from being written, which is told once."""

    def run(self) -> None:
        """Until SIGTERM. Raises OSError where the runtime directory cannot be used, and whatever bug ends the loop."""
        try:
            self.begin()
            self._loop.run()
        finally:
            self.close()
        self.stop()

    def begin(self) -> None:
        """All that the loop is to turn. Raises OSError as `run` does."""
        text = f"nydus-agent {__version__} has started"
        self._record.log.info(text, message_id=Message.STARTED)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, lambda: self._end(End.STOP))
        self._loop.on_signal(signal.SIGHUP, lambda: self._end(End.RELOAD))
        self._loop.add_reader(self._ports.watch.fileno(), self._look)
        self._api.listen_unix(self._places.api_socket)
        self._listen_again()
        self._begin_session()

    def close(self) -> None:
        """Wait for nothing any more. The fence stays as it is."""
        if self._session is not None:
            self._session.close()
        if self._listening is not None:
            self._listening.cancel()
        for listener in (self._endpoint, self._spare, self._api, self._metrics):
            listener.end()
        self._loop.remove_reader(self._ports.watch.fileno())

    def _begin_session(self) -> None:
        first = self._session is None
        session = self._session = self._new_session()
        if first:
            self._recall(session.state)
        session.begin(self._session_over)
        self._publish()  # its first looks are done
        self._ports.notify.send("READY=1", f"STATUS={_sentence(self._view_of(session))}")

    def _recall(self, state: State) -> None:
        """What a former run has told, and since when the health state holds where that is known."""
        now = time.time()
        self._record.history.extend(past.recall(self._places.status, now, state.health_state))
        if state.health_state is not HealthState.UNKNOWN:
            self._record.health_since = now - (time.monotonic() - state.since)

    def _session_over(self, end: End) -> None:
        if end is End.STOP:
            self._loop.stop()
            return
        if end is End.RELOAD:
            self._reload()
        self._begin_session()

    def _new_session(self) -> Session:
        config, identity, defaults = self._config, node_identity(), self._defaults

        def settle(found: Applied) -> Settings:
            return settings(config, found, identity, user_known=not defaults)

        effective = Document(self._places.effective, self._places.owner)
        settled = settle(applied(effective.load()))
        before = self._session
        memory = self._memory_file.load(time.monotonic(), settled.policy) if before is None else before.memory
        origins = frozenset(origin.name for origin in settled.origins)
        return Session(
            self._loop,
            settled,
            self._places,
            self._ports,
            self._record,
            self._drift,
            memory=known_to(memory, *settled.known_as, origins),
            resettle=settle,
            canary=self._object,
            canary_port=lambda: self._endpoint.port or self._spare.port,
            on_change=self._publish,
        )

    def _end(self, end: End) -> None:
        if self._session is not None:
            self._session.post(end)

    def _lack(self, why: str) -> None:
        """The canary comes back to us by this listener: while it takes nobody, a canary that fails accuses nobody."""
        if self._session is not None:
            self._session.post(AgentInWant(why))

    def _broken(self, error: Exception) -> None:
        self._record.bug("a request was not answered", error)

    def _look(self) -> None:
        if self._drift.look(time.monotonic(), time.time()):
            self._publish()

    # Configuration, reload and stop

    def _first(self) -> Config:
        try:
            return self._load()
        except ConfigError as error:
            self._config_problem = f"{error}; until it is mended, the defaults do, with what apply has set up"
            self._defaults = True
            return Config()

    def _reload(self) -> None:
        """The new configuration, or the old one with a condition that says why."""
        self._ports.notify.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._config = self._load()
        except ConfigError as error:
            self._config_problem = str(error)
            self._record.counts.add("reloads_total", "failed")
            text = f"the configuration was not reloaded: {error}"
            self._record.log.error(text, message_id=Message.RELOADED)
            return
        self._config_problem, self._defaults = "", False
        self._record.counts.add("reloads_total", "ok")
        self._record.log.info("the configuration was reloaded", message_id=Message.RELOADED)
        if self._endpoint.port != self._config.endpoint.port:
            self._endpoint.close()
        self._metrics.close()

    def stop(self) -> None:
        """A stop leaves the node as it would be without us; a restart leaves the fence to the next run's adoption."""
        self._ports.notify.send("STOPPING=1")
        session = self._session
        if session is None:
            return
        keeps = session.state.fence is not None and being_restarted(self._ports.processes())
        try:
            if not keeps:
                session.keeper.remove()
        except FenceError:
            pass  # no nft here; what there is ends with its lease
        text = "stopped; the fence is left to the next run" if keeps else "stopped; nothing is fenced"
        self._record.log.info(text, message_id=Message.STOPPED)

    # Listeners

    def _listen_again(self) -> None:
        """Bring up the listeners that are not up, again and again."""
        self._listening = self._loop.call_later(_LISTEN_AGAIN_S, self._listen_again)
        self._listen()

    def _listen(self) -> None:
        """Where the port is taken, the canary moves to a spare one."""
        port = self._config.endpoint.port
        if self._endpoint.port is None:
            why = self._endpoint.listen_tcp(_LOOPBACK, port)
            self._port_problem = f"{_LOOPBACK}:{port} is {why}: {self._holder(port)}" if why else ""
            if not why:
                self._spare.close()
            elif self._spare.port is None:
                self._spare.listen_tcp(_LOOPBACK, 0)
        listen = self._config.metrics.listen
        if listen and self._metrics.port is None:
            host, _, metrics_port = listen.rpartition(":")
            self._metrics.listen_tcp(host.strip("[]"), int(metrics_port))

    def _holder(self, port: int) -> str:
        try:
            found = self._ports.tables.find_listener(_LOOPBACK, port)
        except PortError as error:
            return error.cause
        if found is None:
            return "nobody can be seen to listen there"
        return self._ports.tables.holder(found.uid, found.inode)

    def _public(self, path: str, query: str) -> Response | None:
        if path.startswith("/canary"):
            return self._canary_only(path, query)
        view, age_s = self._view, time.monotonic() - self._turned_at
        if path not in ("/livez", "/readyz"):
            return None
        if view is None:
            return Response(503, b"starting\n")
        checks = readiness.live(age_s) if path == "/livez" else readiness.ready(view, age_s)
        status, text = readiness.render(path[1:], checks, verbose="verbose" in query.split("&"))
        return Response(status, text.encode(errors="backslashreplace"))

    def _canary_only(self, path: str, _query: str) -> Response | None:
        if path in ("/canary", self._object.path):
            return Response(200, self._object.body, "application/octet-stream")
        return None

    def _local(self, path: str, query: str) -> Response | None:
        session = self._session
        if path == "/status" and session is not None:
            return Response(200, self._encoder.encode(self._view_of(session)), "application/json")
        return self._metrics_only(path, query) or self._public(path, query)

    def _metrics_only(self, path: str, _query: str) -> Response | None:
        session = self._session
        if path != "/metrics" or session is None:
            return None
        text = metrics.render(self._view_of(session))
        return Response(200, text.encode(errors="backslashreplace"), metrics.CONTENT_TYPE)

    # The picture

    def _publish(self) -> None:
        """Called at each transition and once a second, as the sign that the loop turns. While nothing goes on, one
        publication in _QUIET_S is enough: making one costs as much as a ping.
        """
        session = self._session
        if session is None:
            return
        self._turned_at = time.monotonic()
        try:
            self._publish_of(session, self._turned_at)
        except Exception as error:  # noqa: BLE001 - the node is guarded also where nobody can be told of it
            if self._unpublished != repr(error):
                self._record.bug("status.json was not written", error)
            self._unpublished = repr(error)

    def _publish_of(self, session: Session, now: float) -> None:
        self._memory_file.save(session.memory)
        seen = marks(session, self._problems())
        if seen == self._marks and quiet(session) and now - self._viewed_at < _QUIET_S:
            return
        before, view = self._view, self._view_of(session)
        self._view, self._viewed_at, self._marks = view, now, seen
        with contextlib.suppress(OSError):  # no room in /run: the sockets still tell, and the next time tries again
            publish.write(self._places.status, self._encoder.encode(view))
        self._unpublished = ""
        if before is None or _sentence(before) != _sentence(view):
            self._ports.notify.send(f"STATUS={_sentence(view)}")

    def _view_of(self, session: Session) -> View:
        return view_of(session, self._problems())

    def _problems(self) -> Problems:
        return Problems(self._config_problem, self._port_problem)


def _sentence(view: View) -> str:
    """The first line of `systemctl status`."""
    if view.mode is Mode.UNKNOWN:
        return f"mirror {view.health_state}; {view.mode_reason}"
    return f"reads go to the {view.route}; mirror {view.health_state}: {view.health_reason}"
