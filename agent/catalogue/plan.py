"""Errors of planning (03): why there can be no plan for this node."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
    Entry("NNA0301", "systemd does not manage containerd here", Exit.USAGE,
          "systemd is not PID 1, its bus does not answer, or it knows no containerd.service, or that one "
          "is masked.",
          "See `systemctl status containerd`; or apply at the next boot (`[apply] on_install = true`)."),
    Entry("NNA0303", "a file to be changed cannot be read", Exit.USAGE,
          "What is in it is unknown, so it is not replaced.",
          "Look at the named file and its rights."),
    Entry("NNA0304", "a restart of the snapshotter would end running mounts", Exit.USAGE,
          "With KillMode control-group or mixed systemd ends every nydusd with the snapshotter. A unit "
          "file or drop-in sets it, or what it sets cannot be told; it is named.",
          "Take KillMode out of the named file, then `systemctl daemon-reload`."),
    Entry("NNA0305", "containerd has images under another root of the snapshotter", Exit.USAGE,
          "containerd's database refers to what lies below the root of the snapshotter that unpacked an "
          "image. Under another root no container of it could start.",
          "Keep the root (`snapshotter.root`), or drain the node and remove the images first: `crictl rmi"
          " --all`."),
    Entry("NNA0311", "containerd's configuration cannot be understood", Exit.USAGE,
          "The root file, or one that it imports, is not TOML, cannot be read, or has a version that this"
          " containerd does not know: 1.x knows versions 1 and 2, 2.0 to 2.2 also 3.",
          "Correct the named file; `containerd config dump` names the line."),
    Entry("NNA0313", "file cannot be edited safely", Exit.USAGE,
          "Adding our keys or taking them out would change lines of others, or the result would mean "
          "something else: others have edited the file since, or a file that containerd loads after ours "
          "overrides it.",
          "Set or remove the named keys by hand, or simplify the file (inline tables, dotted keys); "
          "`containerd config dump` shows what is in force."),
    Entry("NNA0314", "containerd cannot be used as it is set up", Exit.USAGE,
          "Its version is not supported or was not told, it listens on another socket than ours, or "
          "`containerd.mode` wants the runtime's own snapshotter, which came with 1.7.",
          "Use containerd 1.6, 1.7 or 2.x; correct `containerd.address` or `containerd.mode`."),
    Entry("NNA0318", "containerd's configuration is rendered by another program", Exit.USAGE,
          "k3s and rke2 write it at each start; only drop-ins that it imports stay, and those of releases"
          " before 2026 import none. k0s (first line `# k0s_managed=true`) and MicroK8s "
          "(args/containerd.toml, containerd-template.toml) also restart containerd themselves, which is "
          "not supported yet.",
          "Upgrade k3s or rke2 to a release whose file imports config-v3.toml.d. On k0s put the named "
          "keys into /etc/k0s/containerd.d/nydus.toml by hand, on MicroK8s into containerd-template.toml."),
    Entry("NNA0321", "dialect mirrors cannot be used", Exit.USAGE,
          "nydusd from 2.3.5 on ignores mirrors silently, snapshotters from 0.16 on do not pass them on, "
          "and one header must name the registry of all requests.",
          "Set `mirror.dialect` to \"proxy\" or \"auto\"; or set `mirror.registry` to the registry's URL."),
    Entry("NNA0333", "no such generation to go back to", Exit.USAGE,
          "Only generations since the last removal count; what was before the first, `nydus-agent remove`"
          " puts back.",
          "`nydus-agent generations` shows them."),
    Entry("NNA0341", "plan in a file is not carried out", Exit.USAGE,
          "It was not written by `plan --output`, or what it was decided on is other now, or it is "
          "another node's or version's; what is other is named.",
          "Look at the new plan: `nydus-agent plan --output FILE`."),
    Entry("NNA0390", "plan is not safe", Exit.FAILED,
          "A bug in nydus-agent: some step would leave containerd with a snapshotter that cannot answer.",
          "Report it with the output of `nydus-agent plan --format json`."),
)  # fmt: skip
