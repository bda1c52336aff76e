"""Who holds a listening socket: asked about a process of our own."""

from __future__ import annotations

import socket
import subprocess
import sys

from agent.dragonfly.command_line import environment_of
from agent.netfilter.sock_diag import KernelSockets, ProcHolders

LISTENER = """
import socket, sys
made = socket.create_server(("127.0.0.1", 0))
print(made.getsockname()[1], flush=True)
sys.stdin.read()
"""


def inode_of(port: int) -> int:
    with KernelSockets() as tables:
        (row,) = tables.listening(port)
    return row[2]


def test_the_process_is_found_with_its_command_line_and_dfdaemons_variables_alone() -> None:
    argv = [sys.executable, "-c", LISTENER, "--config", "/x.yaml"]
    env = {"DFDAEMON_CONFIG": "/y.yaml", "PATH": "/usr/bin"}
    with subprocess.Popen(argv, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        holder = ProcHolders(environment_of).of(inode_of(int(child.stdout.readline())))
        assert holder is not None
        assert (holder.pid, list(holder.argv), holder.environment) == (
            child.pid,
            argv,
            {"DFDAEMON_CONFIG": "/y.yaml"},
        )
        child.communicate(timeout=60)


def test_a_socket_that_nobody_holds_any_more_has_no_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        inode = inode_of(made.getsockname()[1])
        assert ProcHolders(environment_of).of(inode) is not None
    assert ProcHolders(environment_of).of(inode) is None
