"""Errors of planning (03): why there can be no plan for this node."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
    Entry("NNA0301", "no systemd", Exit.USAGE,
          "systemd is not PID 1 here, or its bus does not answer; units cannot be managed.",
          "Apply at the next boot (`[apply] on_install = true`)."),
    Entry("NNA0302", "containerd has no unit", Exit.USAGE,
          "systemd knows no containerd.service, or it is masked.",
          "See `systemctl status containerd`."),
    Entry("NNA0303", "a file to be changed cannot be read", Exit.USAGE,
          "What is in it is unknown, so it is not replaced.",
          "Look at the named file and its rights."),
    Entry("NNA0304", "a restart of the snapshotter would end running mounts", Exit.USAGE,
          "With KillMode control-group or mixed systemd ends every nydusd with the snapshotter. A unit file "
          "or drop-in "
          "sets it, or what it sets cannot be told; it is named.",
          "Take KillMode out of the named file, then `systemctl daemon-reload`."),
    Entry("NNA0305", "containerd has images under another root of the snapshotter", Exit.USAGE,
          "containerd's database refers to what lies below the root of the snapshotter that unpacked an "
          "image. Under "
          "another root no container of it could start.",
          "Keep the root (`snapshotter.root`), or drain the node and remove the images first: `crictl rmi "
          "--all`."),
    Entry("NNA0311", "containerd's configuration does not parse", Exit.USAGE,
          "The root file, or one that it imports, is not TOML or cannot be read: what is in force is "
          "unknown.",
          "Correct the named file; `containerd config dump` names the line."),
    Entry("NNA0312", "version of containerd's configuration is not supported", Exit.USAGE,
          "This containerd cannot read a file of that version: 1.x knows versions 1 and 2, 2.0 to 2.2 also "
          "3.",
          "Write the file in a version that it reads (`containerd config default` shows one)."),
    Entry("NNA0313", "containerd's configuration cannot be edited safely", Exit.USAGE,
          "Adding the keys would change lines of others, or the result would mean something else.",
          "Set the named keys by hand, or simplify the file (inline tables, dotted keys)."),
    Entry("NNA0314", "version of containerd is not supported", Exit.USAGE,
          "How it reads its configuration is not known, or `containerd --version` does not tell the version.",
          "Use containerd 1.6, 1.7 or 2.x."),
    Entry("NNA0315", "another file of containerd's configuration stands in the way", Exit.USAGE,
          "A file that containerd loads after ours overrides it, or has another version than the root file.",
          "Change the named file; `containerd config dump` shows what is in force."),
    Entry("NNA0316", "mode cannot work with this containerd", Exit.USAGE,
          "The runtime's own snapshotter came with containerd 1.7.",
          'Set `containerd.mode` to "default" or "plugin-only".'),
    Entry("NNA0317", "containerd listens elsewhere", Exit.USAGE,
          "Its configuration names another socket than ours, so nobody could see whether a restart worked.",
          "Set `containerd.address` to the socket that containerd's configuration names."),
    Entry("NNA0318", "containerd's configuration is rendered by another program", Exit.USAGE,
          "k3s and rke2 write it at each start; only drop-ins that it imports stay, and those of releases "
          "before 2026 "
          "import none. k0s (first line `# k0s_managed=true`) and MicroK8s (args/containerd.toml, "
          "containerd-template.toml) also restart containerd themselves, which is not supported yet.",
          "Upgrade k3s or rke2 to a release whose file imports config-v3.toml.d. On k0s put the named keys "
          "into "
          "/etc/k0s/containerd.d/nydus.toml by hand, on MicroK8s into containerd-template.toml."),
    Entry("NNA0321", "dialect mirrors cannot work here", Exit.USAGE,
          "nydusd from 2.3.5 on ignores mirrors silently, and snapshotters from 0.16 on do not pass them on.",
          'Set `mirror.dialect` to "proxy" or "auto".'),
    Entry("NNA0322", "dialect mirrors needs a registry", Exit.USAGE,
          "One header names the registry of all requests; without it the mirror asks its own default "
          "registry.",
          "Set `mirror.registry` to the registry's URL."),
    Entry("NNA0331", "containerd would go on naming the snapshotter", Exit.USAGE,
          "containerd's configuration was edited since, and our part cannot be taken out of it without "
          "touching more.",
          "Take the snapshotter out of the file by hand, then remove again."),
    Entry("NNA0332", "a file cannot be brought back", Exit.USAGE,
          "Others edited it since, and what was ours in it then cannot be put back without touching theirs.",
          "Apply the wanted configuration instead (`nydus-agent plan`), or undo the edit by hand."),
    Entry("NNA0333", "no such generation to go back to", Exit.USAGE,
          "Only generations since the last removal count; what was before the first, `nydus-agent remove` "
          "puts back.",
          "`nydus-agent generations` shows them."),
    Entry("NNA0341", "file is no plan", Exit.USAGE,
          "Only what `plan --output` wrote can be applied.",
          "Write one: `nydus-agent plan --output FILE`."),
    Entry("NNA0342", "plan is stale", Exit.USAGE,
          "What it was decided on is other now, or it is another node's or version's; what is other is "
          "named.",
          "Look at the new plan: `nydus-agent plan --output FILE`."),
    Entry("NNA0390", "plan is not safe", Exit.FAILED,
          "A bug in nydus-agent: some step would leave containerd with a snapshotter that cannot answer.",
          "Report it with the output of `nydus-agent plan --format json`."),
)  # fmt: skip
