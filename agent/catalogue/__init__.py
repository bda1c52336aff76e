"""The catalogue: every error code once, with what it means, its exit code and what to do.

It feeds the CLI, the man page and the journal's message catalogue. Ranges: 01 configuration, 02 binaries and
rights, 03 planning, 04 the transaction, 05 systemd, 06 containerd, 07 snapshotter and nydusd, 08 mirror and
fence, 10 command line, 11 packages of programs, 12 credentials of registries, 14
conversion, 15 Dragonfly's files, 17 the bench.
"""

from __future__ import annotations

import enum

from agent.catalogue import more
from agent.errors import Entry, Exit

_ENTRIES = (
    *more.ENTRIES,
    Entry("NNA0101", "configuration is wrong", Exit.USAGE,
          "agent.toml or a drop-in is not TOML, has unknown keys, wrong types or impossible values, is in "
          "conflict with another, or others than root may write it.",
          "Correct the named keys; `nydus-agent check` shows all problems at once."),
    Entry("NNA0102", "configuration cannot be read", Exit.USAGE,
          "A configuration file exists but is not readable or not a regular file.",
          "Look at the named file and its rights."),
    Entry("NNA0201", "program is missing or cannot be used", Exit.USAGE,
          "nydusd, nydus-image, the snapshotter or containerd is not installed, is built for another "
          "architecture, could not be looked at, or is a nydusd that names no git commit: a snapshotter "
          "from 0.15.4 on needs one while images are mounted.",
          "Install the package containerd or nydus-snapshotter, or make one of upstream's and install it "
          "by apt: `nydus-agent programs lock`, `nydus-agent programs package`."),
    Entry("NNA0205", "kernel allows too few open files", Exit.FAILED,
          "nydusd asks for a million and exits where fs.nr_open is lower.",
          "sysctl -w fs.nr_open=1048576"),
    Entry("NNA0221", "program failed", Exit.FAILED,
          "A program that is needed is not there, was not started by the kernel, ended with an error, did"
          " not end in time, or what a process runs could not be seen. Its last lines are shown.",
          "Run the shown command by hand, as root; where the program is missing, install it."),
    Entry("NNA0401", "another run is under way", Exit.LOCKED,
          "apply, remove, recover and drill exclude each other, and nydus-agent-apply.service waits half "
          "an hour for dpkg; the holder is named.",
          "Wait until it is done, then try again: `systemctl start nydus-agent-apply`."),
    Entry("NNA0402", "change failed and was undone", Exit.FAILED,
          "A step or the proof failed. The node is as it was before; what was put back is listed.",
          "See the cause; then run the verb again."),
    Entry("NNA0403", "change failed and could not be undone as a whole", Exit.UNKNOWN,
          "What is named could not be put back. The journal stays open and the next run tries again.",
          "Mend what is named, then run `nydus-agent recover`."),
    Entry("NNA0404", "interrupted", Exit.FAILED,
          "A signal came; what had been done was undone.",
          "Run the verb again."),
    Entry("NNA0405", "containerd or the snapshotter does not answer", Exit.FAILED,
          "No process answers on its socket in time, it died, or it is still the one from before the "
          "change; its own last words are shown.",
          "See `journalctl -n 50 -u containerd -u nydus-snapshotter`."),
    Entry("NNA0407", "containerd does not take the configuration", Exit.FAILED,
          "`containerd config dump` failed on the files as they would be, or shows another value for a key "
          "of ours because an import overrides it: before they are written, or before the restart, and "
          "then they were put back. After a removal: CRI's image file system is still ours.",
          "Look at the shown lines, at `nydus-agent plan` and at the imports of containerd's configuration."),
    Entry("NNA0410", "record cannot be used", Exit.FAILED,
          "The journal of an interrupted change, or a generation in /var/lib/nydus-agent/generations, is "
          "missing or damaged, or another version wrote it.",
          "Look at the named file, or install the version that wrote it; then run `nydus-agent recover`."),
    Entry("NNA0411", "containers run on the snapshotter", Exit.FAILED,
          "Without it containerd could not clean up after them. Nothing was touched.",
          "End them, or run `nydus-agent remove --force`."),
    Entry("NNA0412", "file was changed by others and is left alone", Exit.FAILED,
          "Somebody changed it after it was looked at, or after our own step wrote it.",
          "Compare the file with what you want, then run `nydus-agent plan`."),
    Entry("NNA0415", "change has to wait", Exit.LOCKED,
          "It would restart containerd or the snapshotter more often than [apply] restarts_per_hour "
          "allows, or so soon after the last time that it looks like a loop. Nothing was touched.",
          "Wait as long as is said, or run `nydus-agent apply --now`."),
    Entry("NNA0416", "containerd's restart is left to you", Exit.NOT_AS_WANTED,
          "The change needs a restart of containerd, and [containerd] restart is never. Nothing was "
          "touched: a configuration on the disk that does not run would come into force at somebody "
          "else's restart, unproved.",
          "When a restart suits you: `nydus-agent apply --now`."),
    Entry("NNA0417", "change waits for its confirmation", Exit.LOCKED,
          "The last change was made with `apply --confirm` and is taken back unless it is confirmed in time. "
          "Until then no other is begun. Nothing was touched.",
          "`nydus-agent confirm` keeps it, `nydus-agent rollback` takes it back now."),
    Entry("NNA0418", "change cannot be confirmed", Exit.FAILED,
          "It was taken back because its time was over, or was cut off before it came to its end.",
          "`nydus-agent generations` shows what is in force; run `nydus-agent apply` again."),
    Entry("NNA0419", "sandbox image cannot be unpacked", Exit.FAILED,
          "Every pod starts with this image. Its layers are not on the node any more "
          "(discard_unpacked_layers), and it could not be pulled again: with the nydus snapshotter as CRI's "
          "no new pod would start, because containerd pulls nothing that it knows. The change was undone.",
          "Pull the image again, or import it with `ctr --namespace k8s.io images import`, then apply "
          "again."),
    Entry("NNA0420", "change stands, but what follows it failed", Exit.UNKNOWN,
          "The change was proved and accepted, and is not undone. What comes after that did not come to "
          "its end: the news for the agent, a last look at the node, the answer. Whether all is as wanted"
          " is not known.",
          "Run `nydus-agent recover`, which ends what is left of the change, then `nydus-agent doctor`."),
    Entry("NNA0421", "file cannot be used", Exit.FAILED,
          "It is no regular file, longer than 16 MiB, a symbolic link to nothing, or its path leads "
          "through a file.",
          "Look at it with `ls -l`, and put a regular file there."),
    Entry("NNA0422", "file may not be used", Exit.FAILED,
          "The kernel or a security module (SELinux, AppArmor, an immutable flag) refused it, or a "
          "symbolic link lies in, or leads through, a directory that others than root can write to.",
          "Run the verb as root; see `ls -lZ`, `lsattr` and the audit log; take the write permission for "
          "group and others from the named directory."),
    Entry("NNA0427", "file system error", Exit.FAILED,
          "There is no room, a quota is used up, the file system is read-only, or it failed. Nothing was "
          "half written, and without its lock and journal in /var/lib/nydus-agent nothing is changed.",
          "Free some space (`df -h`, `df -i`), remount for writing, or see dmesg; then try again."),
    Entry("NNA0441", "not as it was applied", Exit.NOT_AS_WANTED,
          "Somebody has changed something of what `nydus-agent apply` has set up: a file, a unit, a program, "
          "or our keys in a file of another owner. What was changed again after each repair is left so.",
          "Follow the shown command; `nydus-agent repair --dry-run` shows what can be put back. Find out "
          "what changes it (configuration management?)."),
    Entry("NNA0501", "systemd does not answer", Exit.UNKNOWN,
          "PID 1 is another program, or the system bus is not there.",
          "systemctl is-system-running"),
    Entry("NNA0502", "no such unit", Exit.FAILED,
          "systemd finds no file of this unit.",
          "systemctl cat UNIT"),
    Entry("NNA0503", "systemd did not do what was asked", Exit.FAILED,
          "A job ended with another result than done or not in time, or systemd refused the call; the "
          "unit's last lines are shown. systemd was not told to give it up.",
          "Run the verb as root; see `systemctl status UNIT`, `systemctl list-jobs` and `journalctl -b "
          "_PID=1`."),
    Entry("NNA0601", "containerd refused a request", Exit.FAILED,
          "A gRPC call to containerd, its CRI plugin or the snapshotter failed, was not allowed, or named "
          "what is not there. Most often the snapshotter is not registered in the containerd that runs now.",
          "See `journalctl -u containerd -n 50`; compare `ctr plugins ls` with the proxy_plugins of "
          "containerd's configuration."),
    Entry("NNA0602", "nobody answers on a gRPC socket", Exit.FAILED,
          "The socket is not there, nobody listens on it, or no answer came in time.",
          "See `systemctl status` of containerd and nydus-snapshotter."),
    Entry("NNA0607", "containerd's CRI plugin does not work", Exit.FAILED,
          "It failed when containerd started, though containerd itself runs, or its runtime is not ready:"
          " the kubelet sees no runtime.",
          "See `ctr plugins ls` for cri with status error, and `journalctl -u containerd` for the reason."),
    Entry("NNA0608", "an image cannot be read", Exit.FAILED,
          "One of its documents in containerd's content store is no JSON object, nested too deeply or too"
          " long.",
          "Remove the image (`crictl rmi`) and pull it again; look at it with `ctr content get`."),
    Entry("NNA0653", "containerd does not use our snapshotter", Exit.FAILED,
          "Checks 5 to 7: it is not registered, or with another address or root, CRI uses another one, or"
          " containerd does not reach it.",
          "See `nydus-agent plan`; `nydus-agent apply` puts our keys back and restarts containerd where "
          "that is due."),
    Entry("NNA0714", "snapshotter's unit is not as it must be", Exit.FAILED,
          "Check 2: with another KillMode than process a restart ends the roots of running containers; "
          "nydusd obeys HTTP_PROXY for the mirror itself unless NO_PROXY names it; or systemd has not "
          "read the file that is there now.",
          "See `systemctl cat nydus-snapshotter`; take out the named line, then `systemctl daemon-reload`."),
    Entry("NNA0721", "nydusd does not tell", Exit.UNKNOWN,
          "A socket of nydusd is there, and what came from it in time is an error, incomplete or no JSON "
          "object; or its sockets cannot be listed.",
          "See whether the process lives (`pgrep -a nydusd`), and `journalctl -u nydus-snapshotter`."),
    Entry("NNA0731", "nydusd could not be tried", Exit.FAILED,
          "Checks 1 and 10: a private nydusd, or the new program of a package, was not started, ended, or"
          " served no mount in time.",
          "See the cause and the lines of its log. Purge the named package, or name another version in "
          "[programs]."),
    Entry("NNA0734", "bytes did not come through the mirror", Exit.FAILED,
          "Check 10: a read got an error from the mirror, nydusd fetched more than the mirror gave to it,"
          " or the mirror's traffic counter grew by less than nydusd fetched.",
          "Look at the mirror's log. Is [mirror] metrics_url that of the same dfdaemon? Try the shown "
          "registry by hand."),
    Entry("NNA0735", "mirror only forwards", Exit.FAILED,
          "Check 10: no rule of dfdaemon makes tasks of blob requests, so peers share nothing.",
          "Look at proxy.rules in dfdaemon.yaml."),
    Entry("NNA0741", "running nydusd do not have the template", Exit.FAILED,
          "Check 8: the template is not there or damaged, a running nydusd does not answer, or it keeps "
          "the configuration that its mount was made with.",
          "A damaged template: `nydus-agent apply`. Else start the containers of the named images anew."),
    Entry("NNA1001", "must be root", Exit.USAGE,
          "This verb changes the node or reads root's sockets.",
          "Run it with sudo."),
    Entry("NNA1002", "command line is wrong", Exit.USAGE,
          "A verb or option is unknown, missing or has an impossible value.",
          "Look at `nydus-agent --help` and nydus-agent(8)."),
    Entry("NNA1003", "route was pinned, but the agent did not confirm it", Exit.UNKNOWN,
          "The pin is on disk, but the daemon published no status that shows it within the deadline.",
          "Look at `nydus-agent status` and `systemctl status nydus-agent`."),
    Entry("NNA1004", "route cannot be pinned", Exit.FAILED,
          "Only the fence can move the reads of running containers, and this node has none (native, or "
          "not applied).",
          "`nydus-agent doctor` says why the mode is not fence."),
    Entry("NNA1005", "installation is incomplete", Exit.FAILED,
          "A file of the package, or a Python module of a package that it depends on, is not there.",
          "Install the named package, or ours anew: `apt install --reinstall nydus-node-agent`."),
    Entry("NNA1010", "agent is not running", Exit.NOT_AS_WANTED,
          "Nothing judges the mirror, nothing is fenced; reads that fail at the mirror fall back one by "
          "one in nydusd.",
          "Start it: `systemctl start nydus-agent`."),
    Entry("NNA1012", "agent publishes nothing that can be read", Exit.UNKNOWN,
          "Its process lives and its last publication is old, or a file that `status` answers from is not"
          " readable, not a regular file or not JSON.",
          "Restart it (`systemctl restart nydus-agent`; the lease of a fence survives that), or look at "
          "the named file and its rights."),
    Entry("NNA1013", "changes are pending", Exit.NOT_AS_WANTED,
          "The configuration wants other than is in force: it was edited, the node rolled back, or "
          "programs changed.",
          "`nydus-agent plan` shows it; `nydus-agent apply` does it."),
    Entry("NNA1014", "mirror is not well", Exit.NOT_AS_WANTED,
          "Probes or real reads showed that the mirror does not answer, or answers wrongly.",
          "Look at dfdaemon's own log; `nydus-agent doctor` shows what fails."),
    Entry("NNA1016", "origin does not answer", Exit.NOT_AS_WANTED,
          "A registry that images come from does not answer this node.",
          "Look at the network and at the registry."),
    Entry("NNA1017", "not proved", Exit.UNKNOWN,
          "Something could not be told or was not proved for long; it is not claimed to be right.",
          "Run the checks now: `nydus-agent doctor`."),
    Entry("NNA1018", "condition is not as wanted", Exit.NOT_AS_WANTED,
          "The agent found something that is not as it was applied, or another process on the port of "
          "/livez, /readyz and /canary.",
          "`nydus-agent doctor` shows what, `nydus-agent plan` what `apply` would mend; `[endpoint] port`"
          " chooses another port."),
    Entry("NNA1019", "foreign listener on the mirror's port", Exit.NOT_AS_WANTED,
          "Another user than the mirror's listens on its port and could feed bytes to containers; it is "
          "fenced.",
          "Find out who listens: `ss -tlnp`."),
    Entry("NNA1020", "no drill may begin now", Exit.UNKNOWN,
          "A drill rehearses a failure on a node that is well: the mode is fence, the agent runs, the "
          "mirror is healthy, the origin answers, nothing is pinned, and the flap penalty leaves room for"
          " one outage more.",
          "See the cause, and `nydus-agent status`."),
    Entry("NNA1021", "drill was given up", Exit.FAILED,
          "The mirror looked dead, and reads did not go to the origin in time or did not stay there, or "
          "the agent was gone. The drill was ended at once.",
          "`nydus-agent status --why` and `journalctl -u nydus-agent` tell what the agent saw."),
    Entry("NNA1022", "drill was slower than it should be", Exit.NOT_AS_WANTED,
          "Reads took more than a second to switch, or were not back at the mirror in the expected time.",
          "`nydus-agent events` shows what the agent saw and when; a busy node is slower."),
    Entry("NNA1099", "bug in nydus-agent", Exit.FAILED,
          "Something happened that the program was not written for.",
          "Report it with the output of the same command under NYDUS_AGENT_DEBUG=1."),
)  # fmt: skip

CATALOGUE: dict[str, Entry] = {entry.code: entry for entry in _ENTRIES}


class Message(enum.StrEnum):
    """The journal messages of the daemon. Each has a fixed id (systemd.journal-fields(7), MESSAGE_ID), to
    filter by and to explain in the message catalogue (packaging/nydus-agent.catalog, `journalctl -x`); ids
    never change their meaning.
    """

    STARTED = "e8bfcd25c10b461286e39ab181b0c06d"
    STOPPED = "e4376d9562c249a58cd140159bab823f"
    HEALTH = "81a3e52d667d4764960142f6be812160"
    ROUTE = "3ab91ffccd49498bb4c75333da43a3b8"
    MODE = "48eb2bd9f6a34f2eac4c49ff486f66fd"
    PIN = "20ec1baa112a42f9ad07144fdee8d6be"
    DRILL = "36aeb410206e4e5b80422fdbba0133e0"
    BENCH = "5d0f0a5a3b7e4a0f9b1b6f0c2a7d9e34"
    CONDITION = "a6480e2258394bc499763a66d2a2a8a8"
    RELOADED = "8a5af2b6adab49fcbda4df4af9e2d9b0"
    INTERNAL = "564ce355383c49e5b54126130ba61285"
    DRIFT = "614568b110eb437b91f812b9a9855dd1"
    SYMPTOM = "12e0fa1e634a4031a15d867eb8d2ad3f"
