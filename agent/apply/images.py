"""Have an image unpacked by our snapshotter before the kubelet needs it."""

from __future__ import annotations

from agent import paths
from agent.errors import ApplyError, ContainerdError, ProcessError
from agent.node.images import NAMESPACE
from agent.plan.steps import UnpackImage
from agent.ports import Ports

_UNPACK_S = 60.0
_PULL_S = 120.0


def unpack(ports: Ports, step: UnpackImage) -> None:
    """From the layers that are here, without a network; else by a pull.

    Raises ApplyError NNA0419 with both causes: no pod would start any more.
    """
    why = "its layers were discarded after they had been unpacked" if not step.complete else _from_here(ports, step)
    if not why:
        return
    try:
        ports.containerd.pull(step.name, step.runtime, deadline_s=_PULL_S)
    except ContainerdError as error:
        raise ApplyError(
            "NNA0419", f"{step.name} cannot be unpacked by the nydus snapshotter",
            cause=f"{why}; and it could not be pulled again: {error.cause or error.what}", seen=error.seen,
            try_=f"crictl pull {step.name}",
        ) from None  # fmt: skip


def _from_here(ports: Ports, step: UnpackImage) -> str:
    """ "" or why not. containerd's own client does it, so that its garbage collection knows of the snapshots."""
    argv = ["ctr", "--address", step.address, "--namespace", NAMESPACE, "snapshots", "unpack"]
    try:
        ports.processes.run([*argv, "--snapshotter", paths.PROXY_PLUGIN, step.digest], deadline_s=_UNPACK_S)
    except ProcessError as error:
        return "; ".join([error.cause or error.what, *error.seen[-1:]])
    return ""
