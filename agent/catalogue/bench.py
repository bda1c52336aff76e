"""Errors of `nydus-agent bench`."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
    Entry("NNA1701", "start could not be measured", Exit.FAILED,
          "An image could not be pulled, its container ended with an error, or was not ready in time.",
          "See the shown lines; try the command by hand, or give it longer: `--deadline`."),
    Entry("NNA1702", "image cannot be measured cold", Exit.FAILED,
          "It was on the node before, other images share its layers, or it could not be removed. The bench "
          "removes "
          "only what it pulled itself.",
          "Remove the named image (`crictl rmi`), or measure one that is not in use here."),
    Entry("NNA1703", "cache cannot be emptied", Exit.FAILED,
          "The page cache could not be dropped, or files of nydusd's cache could not be removed.",
          "See the cause."),
    Entry("NNA1704", "dfdaemon does not forget", Exit.FAILED,
          "dfdaemon did not tell or did not remove its tasks of the image on its unix socket.",
          "See the cause; `--dfdaemon-socket` names another socket."),
    Entry("NNA1705", "chart cannot be drawn", Exit.USAGE,
          "matplotlib is not installed, the suffix is neither .svg nor .png, or the file cannot be written.",
          "apt install python3-matplotlib"),
    Entry("NNA1706", "bench was not confirmed", Exit.USAGE,
          "It changes a live node for some minutes, in the ways that it has told; nothing was touched.",
          "Add --yes."),
    Entry("NNA1707", "nothing could be measured", Exit.UNKNOWN,
          "No case can be given by this node as it is; the reasons are told case by case.",
          "See the reasons."),
    Entry("NNA1708", "registry's access cannot be handed to containerd", Exit.FAILED,
          "For each pull of a plain image the bench writes a hosts.toml for containerd below /run, which "
          "only root can "
          "read; it could not be written or removed.",
          "See the cause."),
    Entry("NNA1709", "bench was killed before it could clear up", Exit.NOT_AS_WANTED,
          "It had pulled an image, or taken one away with --take-away; /var/lib/nydus-agent/bench.json says "
          "which. The "
          "next bench brings back what was taken away.",
          "Run the named command; `sudo nydus-agent doctor` then forgets it."),
)  # fmt: skip
