"""Errors of programs' packages (11), credentials of registries (12), conversion (14) and the bench (17)."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
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
          "registry, a link-local address).",
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
