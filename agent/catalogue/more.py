"""The codes of planning (03), mirror and fence (08), packages of programs (11), credentials of registries
(12), conversion (14), Dragonfly's files (15) and the bench (17).
"""

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
    Entry("NNA0304", "a restart would end running containers", Exit.USAGE,
          "With KillMode control-group or mixed systemd ends every nydusd with the snapshotter, and every "
          "shim with containerd. A unit file or drop-in sets it, or what it sets cannot be told; it is "
          "named.",
          "Take KillMode out of the named file, then `systemctl daemon-reload`."),
    Entry("NNA0305", "another snapshotter, or another root of it, is in use", Exit.USAGE,
          "containerd's database refers to what lies below the root of the snapshotter that unpacked an "
          "image: under another root no container of it could start. Or another service, process or "
          "container runs a snapshotter on our socket.",
          "Keep the root (`snapshotter.root`), or drain the node and remove the images first: `crictl rmi"
          " --all`. End what holds our socket by what started it; the message names the command."),
    Entry("NNA0311", "containerd's configuration cannot be understood", Exit.USAGE,
          "The root file, or one that it imports, is not TOML, cannot be read, or has a version that this"
          " containerd does not know: 1.x knows versions 1 and 2, 2.0 to 2.2 also 3.",
          "Correct the named file; `containerd config dump` names the line."),
    Entry("NNA0313", "file cannot be edited safely", Exit.USAGE,
          "Adding our keys or taking them out would change lines of others, or the result would mean "
          "something else: others have edited the file since, a file that containerd loads after ours "
          "overrides it, or one of others has our file's name.",
          "Set or remove the named keys by hand, or simplify the file (inline tables, dotted keys); "
          "`containerd config dump` shows what is in force."),
    Entry("NNA0314", "containerd cannot be used as it is set up", Exit.USAGE,
          "Its version is not supported or was not told, it listens on another socket than ours, its unit "
          "starts another root file or another program than those that we would use, or was changed and "
          "not read; `disabled_plugins` names the snapshotter; or `containerd.mode` wants the runtime's "
          "own snapshotter, which came with 1.7.",
          "Use containerd 1.6, 1.7 or 2.x; set `containerd.address`, `config`, `program` or `mode` as the "
          "message says."),
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
    Entry("NNA0801", "fence cannot be used", Exit.FAILED,
          "nft refused a command, its library is not there, or the kernel did not end TCP connections "
          "(sock_diag). Without the fence the node works in mode native.",
          "See `nft list ruleset`. The daemon needs CAP_NET_ADMIN and python3-nftables, the kernel "
          "CONFIG_INET_DIAG_DESTROY."),
    Entry("NNA0803", "fence does not work", Exit.NOT_AS_WANTED,
          "The node was set up for it, but its self-test fails: a fenced port was still reached, or an "
          "open connection survived; or the agent says native.",
          'See `nft list ruleset` and `systemctl status nydus-agent`. Use `switch = "native"`, or find '
          "out what rewrites addresses before netfilter sees them."),
    Entry("NNA0804", "host name was not resolved", Exit.UNKNOWN,
          "The system's resolver gave no address for a registry's name, or none in time.",
          "Look at /etc/resolv.conf and the name server."),
    Entry("NNA0805", "listening sockets cannot be listed", Exit.UNKNOWN,
          "The owner of the mirror's port is asked of the kernel (sock_diag), which did not tell.",
          "Look whether the module tcp_diag can be loaded; until then the owner counts as unknown."),
    Entry("NNA0812", "mirror does not answer well", Exit.FAILED,
          "Check 9: its health URL gave no answer or a status other than 2xx and 3xx, or its data path "
          "gave no answer, another status or another content.",
          "Is dfdaemon running? Look at its log."),
    Entry("NNA0821", "no answer by HTTP", Exit.FAILED,
          "The name has no address, the connection was refused or broke, the whole answer did not come in"
          " time, or what came is too long or not HTTP.",
          "See who listens there (`ss -ltnp`), and ask the same URL with `curl -v`."),
    Entry("NNA0825", "URL is not asked", Exit.USAGE,
          "Only http://HOST/… without credentials is asked, never what is link-local or a cloud's metadata.",
          "Correct the URL in agent.toml."),
    Entry("NNA1501", "Dragonfly's files cannot be rendered or audited", Exit.USAGE,
          "agent.toml or an option names what dfdaemon could not be set up with, or a file cannot be "
          "read, or dfdaemon or the chart would refuse or misread it. All problems are named.",
          "Correct the named keys; `nydus-agent check --show` shows what is set and where, `--as` says "
          "what a file is."),
    Entry("NNA1101", "lock or source of programs cannot be used", Exit.USAGE,
          "The lock is not there, not TOML, has wrong values, or does not pin the release; the version is"
          " known to fail here; or the source is neither a URL nor a directory.",
          "Make the lock anew: `nydus-agent programs lock`; all problems are shown at once. Correct "
          "`--from`, or choose another version."),
    Entry("NNA1111", "package cannot be made", Exit.FAILED,
          "The source does not answer or has no such archive, dpkg-deb is not here or failed, or the "
          "directory cannot be written.",
          "Ask the named URL with `curl -fIL`, or name a nearer source with `--from`; a password comes "
          "from ~/.netrc. Run it where dpkg is installed and the disk has 300 MB free."),
    Entry("NNA1115", "archive is not what the lock pins", Exit.FAILED,
          "It has another length or digest, or the release has another checksum than before; or it lacks "
          "a program, or holds what is no regular file, or is for another architecture. Nothing in the "
          "archive was read where its own digest is wrong.",
          "Do not use that source until it is known why. Make the lock anew where the release itself was "
          "checked: `nydus-agent programs lock`."),
    Entry("NNA1201", "credentials cannot be used as they are", Exit.USAGE,
          "What the configuration names is not there or not readable, others may read or change it, or "
          "docker's configuration in it is wrong. All problems are shown at once, and never a value.",
          "Look at the named file: `chmod 600`, `chown root:root`, or log in again; "
          "`registries.credentials` says where credentials are."),
    Entry("NNA1203", "credential cannot be had", Exit.FAILED,
          "docker's credential helper is not in PATH, failed or did not end in time; or the registry's "
          "token server did not answer, or lies where no credential is sent (plain http for an https "
          "registry, link-local or a cloud's metadata).",
          "Run the helper by hand: `echo REGISTRY | docker-credential-NAME get` prints a secret. Ask the "
          "named URL with `curl`."),
    Entry("NNA1205", "registry refuses this node", Exit.FAILED,
          "It wants a credential and there is none for it, or the one that was found is wrong, expired, "
          "or not enough for this repository.",
          "The message names every source that was tried. Log in where the node looks: `docker --config "
          "DIRECTORY login REGISTRY`, or write the entry by hand."),
    Entry("NNA1206", "credential does not reach nydusd", Exit.NOT_AS_WANTED,
          "The registry lets us in, but the snapshotter takes only a user with a password from docker's "
          "configuration, and looks for one exact name: for Docker Hub `docker.io` since v0.15.12, "
          "`index.docker.io` before.",
          "Add the entry that the message names, or log in with a user and a password."),
    Entry("NNA1207", "credential expires and is not renewed", Exit.NOT_AS_WANTED,
          "A helper gives it, or its password is a token of some hours, and a running nydusd keeps what "
          "it was started with: after that, cold reads of running containers fail with EIO (401 in "
          "nydusd's log). New ones are handed on only by a snapshotter from 0.15.14 on, and only to a "
          "nydusd from 2.4.1 on.",
          "Install newer programs (`nydus-agent programs --help`), apply, and replace the pods of the "
          "named images where their nydusd is older; or give the node a credential that does not expire."),
    Entry("NNA1401", "conversion cannot be done in this way", Exit.USAGE,
          "A name is not HOST/REPOSITORY:TAG and no layout or archive, an option is wrong or excludes "
          "another one, or the directory cannot be used.",
          "See `nydus-agent convert --help`; `--work-dir` names another directory."),
    Entry("NNA1403", "image is not converted", Exit.FAILED,
          "It is not sound, a nydus image already, longer than `--max-unpacked` allows, not there for "
          "this platform, or has files of which nydus-image would make others.",
          "`skopeo inspect --raw IMAGE` shows it. Choose another image or another way; give a larger "
          "`--max-unpacked` where the image is trusted."),
    Entry("NNA1410", "program of the conversion failed", Exit.FAILED,
          "skopeo, nydus-image or nydusify is not installed, is of a version that does not serve, or "
          "failed. What it said last is shown.",
          "A registry without TLS needs `--plain-http HOST`, one with its own CA `--ca FILE`, one with "
          "accounts `skopeo login` or `--authfile FILE`. See `nydus-agent convert --help` for the programs."),
    Entry("NNA1423", "converted image is not what it must be", Exit.FAILED,
          "A layer could not be converted, the result is not valid, could not be compared, or differs "
          "from its source. Nothing was put into the image's place.",
          "See the last lines of nydus-image; another version of it may do better."),
    Entry("NNA1701", "image cannot be measured", Exit.FAILED,
          "It could not be pulled, started or removed, other images share its layers, a cache could not "
          "be emptied, dfdaemon did not forget it, or the chart could not be drawn. The bench removes "
          "only what it pulled itself.",
          "See the cause and the shown lines. Remove the named image (`crictl rmi`), or give it longer: "
          "`--deadline`."),
    Entry("NNA1707", "nothing could be measured", Exit.UNKNOWN,
          "No case can be given by this node as it is; the reasons are told case by case.",
          "See the reasons."),
    Entry("NNA1709", "bench was killed before it could clear up", Exit.NOT_AS_WANTED,
          "It had pulled an image, or taken one away with --take-away; /var/lib/nydus-agent/bench.json "
          "says which. The next bench brings back what was taken away.",
          "Run the named command; `sudo nydus-agent doctor` then forgets it."),
)  # fmt: skip
