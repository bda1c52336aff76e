"""The daemon's life: listeners, sessions, signals, the start and the end as systemd sees them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

from agent import __version__, paths
from agent.catalogue import Message
from agent.config.model import Config
from agent.daemon import metrics, publish
from agent.daemon.canaries import CanaryObject
from agent.daemon.documents import Applied, Document, applied
from agent.daemon.drift import Drift
from agent.daemon.endpoint import HttpServer, Response
from agent.daemon.memory import MemoryFile, known_to, recall
from agent.daemon.publish import Problems, View, marks, quiet, view_of
from agent.daemon.record import Record
from agent.daemon.session import End, Session
from agent.daemon.settings import Places, Settings, settings
from agent.daemon.tasks import readable, task_group
from agent.errors import ConfigError, FenceError, PortError, ProcessError
from agent.health.evidence import AgentInWant
from agent.health.state import HealthState, State
from agent.node.machine import node_identity
from agent.ports import DaemonPorts, Processes

_LISTEN_AGAIN_S = 5.0
_QUIET_S = 4.0
"""Between two publications while nothing goes on. Readers take 10 s of silence for an accident."""
_LIST_JOBS_S = 1.0
_LOOPBACK = "127.0.0.1"


class Service:
    """The whole daemon. `load` reads the operator's configuration and raises ConfigError.

    Where that is wrong from the start, the defaults do, with what `apply` has set up: a daemon that guards
    the mirror which is in use is better than none. A condition says so, and a reload takes the mended one.
    """

    def __init__(self, load: Callable[[], Config], ports: DaemonPorts, places: Places) -> None:
        self._load = load
        self._config_problem = ""
        self._defaults = False
        """No configuration could be read yet."""
        self._config = self._load_first()
        self.ports = ports
        self.places = places
        self.record = Record()
        self.drift = Drift(ports.watch, ports.changer, self._config.containerd.config, places)
        self.canary = CanaryObject()
        self._memory_file = MemoryFile(places.memory)
        self._listeners: _Listeners | None = None
        self._port_problem = ""
        self._unheard = ""
        self._session: Session | None = None
        self._view: View | None = None
        self._viewed_at = 0.0
        self._marks: tuple[object, ...] = ()
        self._turned_at = 0.0
        self._encoder = publish.Encoder()

    async def run(self) -> None:
        """Until SIGTERM. Raises whatever bug ends a task: the fence stays as it is then."""
        text = f"nydus-agent {__version__} has started"
        self.record.log.info(text, message_id=Message.STARTED)
        loop = asyncio.get_running_loop()
        ends = {signal.SIGTERM: End.STOP, signal.SIGINT: End.STOP, signal.SIGHUP: End.RELOAD}
        for number, end in ends.items():
            loop.add_signal_handler(number, self._end, end)
        try:
            await self._run_sessions()
            self._stop()
        finally:
            for number in ends:
                loop.remove_signal_handler(number)

    async def _run_sessions(self) -> None:
        """One after the other, and what is watched besides the mirror."""
        async with task_group() as tasks:
            listeners = self._listeners = _Listeners(self, tasks)
            try:
                self._listen(listeners)
                tasks.create_task(self._listen_again(listeners), name="listeners")
                tasks.create_task(self._watch_files(), name="changed files")
                while await self._run_session() is not End.STOP:
                    pass
            finally:
                listeners.close()

    async def _run_session(self) -> End | None:
        async with task_group() as tasks:
            session = self._next_session(tasks)
            try:
                session.begin()
                self.publish()  # its first looks are done
                self.ports.notify.send("READY=1", f"STATUS={publish.sentence(self._view_of(session))}")
                await session.run()
            finally:
                session.close()
        end = session.ending  # a stop may have come while its tasks were ended
        if end is End.RELOAD:
            self._reload()
        return end

    def _next_session(self, tasks: asyncio.TaskGroup) -> Session:
        """It goes on from what the one before knew; the first one from what a former run has left."""
        effective, before = Document(self.places.effective, self.places.owner), self._session
        settled = self.settle(applied(effective.load()))
        memory = self._memory_file.load(time.monotonic(), settled.policy) if before is None else before.memory
        origins = frozenset(origin.name for origin in settled.origins)
        session = Session(self, tasks, settled, known_to(memory, *settled.known_as, origins))
        self._session = session
        if before is None:
            self._recall(session.state)
        return session

    def settle(self, applied_now: Applied) -> Settings:
        """What a session works with: the configuration, joined with what `apply` has set up."""
        return settings(self._config, applied_now, node_identity(), user_known=not self._defaults)

    def _recall(self, state: State) -> None:
        """What a former run has told, and since when the health state holds where that is known."""
        now = time.time()
        self.record.history.extend(recall(self.places.status, now, state.health_state))
        if state.health_state is not HealthState.UNKNOWN:
            self.record.health_since = now - (time.monotonic() - state.since)

    def _end(self, end: End) -> None:
        if self._session is not None:
            self._session.end(end)

    # Configuration, reload and stop

    def _load_first(self) -> Config:
        try:
            return self._load()
        except ConfigError as error:
            self._config_problem = f"{error}; until it is mended, the defaults do, with what apply has set up"
            self._defaults = True
            return Config()

    def _reload(self) -> None:
        """The new configuration, or the old one with a condition that says why."""
        self.ports.notify.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        before = self._config
        try:
            self._config = self._load()
        except ConfigError as error:
            self._config_problem = str(error)
            self.record.counts.add("reloads_total", "failed")
            text = f"the configuration was not reloaded: {error}"
            self.record.log.error(text, message_id=Message.RELOADED)
            return
        self._config_problem, self._defaults = "", False
        self.record.counts.add("reloads_total", "ok")
        self.record.log.info("the configuration was reloaded", message_id=Message.RELOADED)
        if self._listeners is not None:
            self._listeners.close_changed(before, self._config)

    def _stop(self) -> None:
        """A stop leaves the node as it would be without us; a restart leaves the fence to the next run's
        adoption."""
        self.ports.notify.send("STOPPING=1")
        session = self._session
        if session is None:
            return
        keeps = session.state.fence is not None and being_restarted(self.ports.processes())
        try:
            if not keeps:
                session.lease.remove()
        except FenceError:
            pass  # no nft here; what there is ends with its lease
        text = "stopped; the fence is left to the next run" if keeps else "stopped; nothing is fenced"
        self.record.log.info(text, message_id=Message.STOPPED)

    # What is watched besides the mirror

    def _listen(self, listeners: _Listeners) -> None:
        """Bring up the listeners that are not up. Where /run cannot be written the node is guarded too."""
        unheard = listeners.api.listen_unix(self.places.api_socket)
        if unheard and unheard != self._unheard:
            text = f"nobody can ask {self.places.api_socket}: {unheard}"
            self.record.log.error(text)
        self._unheard = unheard
        why = listeners.listen(self._config)
        if why is not None:
            port = self._config.endpoint.port
            self._port_problem = f"{_LOOPBACK}:{port} is {why}: {self._holder(port)}" if why else ""

    async def _listen_again(self, listeners: _Listeners) -> None:
        while True:
            await asyncio.sleep(_LISTEN_AGAIN_S)
            self._listen(listeners)

    def _holder(self, port: int) -> str:
        try:
            listener = self.ports.tables.find_listener(_LOOPBACK, port)
        except PortError as error:
            return error.cause
        if listener is None:
            return "nobody can be seen to listen there"
        return self.ports.tables.holder(listener.uid, listener.inode)

    async def _watch_files(self) -> None:
        while True:
            await readable(self.ports.watch.fileno())
            if self.drift.read_changes(time.monotonic(), time.time()):
                self.publish()

    # What is served

    def lack(self, why: str) -> None:
        """The canary comes back to us by a listener: while that takes nobody, a canary that fails accuses
        nobody."""
        if self._session is not None:
            self._session.take(AgentInWant(why))

    def broken(self, error: Exception) -> None:
        """A bug has kept a request from being answered."""
        self.record.bug("a request was not answered", error)

    def serve_public(self, path: str, query: str) -> Response | None:
        """What anybody on the node may ask."""
        if path.startswith("/canary"):
            return self.serve_canary(path, query)
        if path not in ("/livez", "/readyz"):
            return None
        if self._view is None:
            return Response(503, b"starting\n")
        age_s = time.monotonic() - self._turned_at
        checks = publish.live(age_s) if path == "/livez" else publish.ready(self._view, age_s)
        status, text = publish.render_checks(path[1:], checks, verbose="verbose" in query.split("&"))
        return Response(status, text.encode(errors="backslashreplace"))

    def serve_canary(self, path: str, _query: str) -> Response | None:
        """The canary's object alone."""
        if path in ("/canary", self.canary.path):
            return Response(200, self.canary.body, "application/octet-stream")
        return None

    def serve_local(self, path: str, query: str) -> Response | None:
        """What the socket's group may ask."""
        if path == "/status" and self._session is not None:
            return Response(200, self._encoder.encode(self._view_of(self._session)), "application/json")
        return self.serve_metrics(path, query) or self.serve_public(path, query)

    def serve_metrics(self, path: str, _query: str) -> Response | None:
        """The metrics alone."""
        if path != "/metrics" or self._session is None:
            return None
        text = metrics.render(self._view_of(self._session))
        return Response(200, text.encode(errors="backslashreplace"), metrics.CONTENT_TYPE)

    # What is published

    def publish(self) -> None:
        """Called at each transition and once a second, as the sign that the loop turns. While nothing goes
        on, one publication in _QUIET_S is enough: making one costs as much as a ping.
        """
        session = self._session
        if session is None:
            return
        self._turned_at = time.monotonic()
        try:
            self._publish(session, self._turned_at)
        except Exception as error:  # noqa: BLE001 - the node is guarded also where nobody can be told of it
            self.record.bug("status.json was not written", error)

    def _publish(self, session: Session, now: float) -> None:
        self._memory_file.save(session.memory)
        marked = marks(session, self.drift, self._problems)
        if marked == self._marks and quiet(session.state) and now - self._viewed_at < _QUIET_S:
            return
        before, view = self._view, self._view_of(session)
        self._view, self._viewed_at, self._marks = view, now, marked
        with contextlib.suppress(OSError):
            # No room in /run: the sockets still tell, and the next time tries again.
            publish.write(self.places.status, self._encoder.encode(view), 0o644)
        if before is None or publish.sentence(before) != publish.sentence(view):
            self.ports.notify.send(f"STATUS={publish.sentence(view)}")

    def _view_of(self, session: Session) -> View:
        return view_of(session, self.drift, self._problems)

    @property
    def _problems(self) -> Problems:
        return Problems(self._config_problem, self._port_problem)


class _Listeners:
    """The daemon's HTTP listeners. Where the endpoint's port is taken, the canary moves to a spare one."""

    def __init__(self, service: Service, tasks: asyncio.TaskGroup) -> None:
        lack, broken = service.lack, service.broken
        self._canary = service.canary
        self._endpoint = HttpServer(tasks, service.serve_public, broken, lacks=lack)
        self._spare = HttpServer(tasks, service.serve_canary, broken, lacks=lack)
        self._metrics = HttpServer(tasks, service.serve_metrics, broken, check_host=False)
        self.api = HttpServer(tasks, service.serve_local, broken, check_host=False)

    def listen(self, config: Config) -> str | None:
        """Bring up those that are not up. Why the endpoint is not, "" where it is now, None where it was."""
        why = None
        if self._endpoint.port is None:
            why = self._endpoint.listen_tcp(_LOOPBACK, config.endpoint.port)
            if not why:
                self._spare.close()
            elif self._spare.port is None:
                self._spare.listen_tcp(_LOOPBACK, 0)
        self._canary.port = self._endpoint.port or self._spare.port
        listen = config.metrics.listen
        if listen and self._metrics.port is None:
            host, _, port = listen.rpartition(":")
            self._metrics.listen_tcp(host.strip("[]"), int(port))
        return why

    def close_changed(self, before: Config, after: Config) -> None:
        """Those whose address is another one now; `listen` brings them up again."""
        if before.endpoint.port != after.endpoint.port:
            self._endpoint.close()
        self._metrics.close()
        self._canary.port = self._endpoint.port or self._spare.port

    def close(self) -> None:
        """All."""
        for listener in (self._endpoint, self._spare, self._metrics, self.api):
            listener.close()


def being_restarted(processes: Processes) -> bool:
    """Whether systemd stops the daemon's unit in order to start it again: both begin with the same signal,
    and only its job tells them apart. False where that cannot be told: a fence that is left behind without
    need would be worse than one that is lifted for the moment of a restart.
    """
    argv = ("systemctl", "list-jobs", "--no-legend", "--plain", "--no-pager", paths.AGENT_UNIT)
    try:
        jobs = processes.run(argv, deadline_s=_LIST_JOBS_S).stdout
    except ProcessError:
        return False
    return any(line.split()[1:3] == [paths.AGENT_UNIT, "restart"] for line in jobs.splitlines())
