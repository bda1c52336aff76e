"""Errors of `convert` (14)."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
    Entry("NNA1401", "no reference to an image", Exit.USAGE,
          "What was given is not HOST/REPOSITORY:TAG, and names no layout or archive.",
          "`nydus-agent convert --help`."),
    Entry("NNA1402", "option of convert is wrong", Exit.USAGE,
          "A platform, a size or a file is not one that can be used, or two options exclude each other.",
          "`nydus-agent convert --help`."),
    Entry("NNA1403", "image is not sound", Exit.FAILED,
          "Its manifest, its configuration or the tar of a layer is not what it must be, or not what "
          "another says.",
          "Look at the image with another tool, and at who made it."),
    Entry("NNA1404", "image is not converted", Exit.FAILED,
          "It is a nydus image already, or has files of which nydus-image would make others, or would lose "
          "rights in "
          "the way that was asked for.",
          "Choose another image, or another way."),
    Entry("NNA1405", "image is not there for this platform", Exit.FAILED,
          "The index has no image for a platform that was asked for, or the image is for another one.",
          "`skopeo inspect --raw IMAGE` shows those that are there."),
    Entry("NNA1410", "skopeo cannot be run", Exit.FAILED,
          "skopeo copies the images, and it is not installed or cannot be started.",
          "`apt install skopeo`, or `--skopeo PROGRAM`."),
    Entry("NNA1411", "image cannot be copied", Exit.FAILED,
          "skopeo could not read the source or write the target. What it said last is shown.",
          "A registry without TLS needs `--plain-http HOST`, one with its own CA `--ca FILE`, one with "
          "accounts "
          "`skopeo login` or `--authfile FILE`."),
    Entry("NNA1421", "image unpacks to too much", Exit.FAILED,
          "The tars of its layers are longer than `--max-unpacked` allows.",
          "Give a larger `--max-unpacked` where the image is trusted."),
    Entry("NNA1423", "layer cannot be converted", Exit.FAILED,
          "nydus-image failed on it, or it cannot be decompressed.",
          "See the last lines of nydus-image; another version of it may do better."),
    Entry("NNA1424", "converted image is not valid", Exit.FAILED,
          "`nydus-image check` refused what was made; nothing was put into its place.",
          "See its last lines; another version of nydus-image may do better."),
    Entry("NNA1425", "converted image cannot be compared", Exit.FAILED,
          "A private nydusd could not mount it, or a read failed.",
          "See its last lines; `--compare` needs nydusd and /dev/fuse."),
    Entry("NNA1426", "no place to work in", Exit.USAGE,
          "The directory cannot be used, or its file system is full.",
          "Give another one: `--work-dir`."),
    Entry("NNA1427", "converted image differs from its source", Exit.FAILED,
          "A file that is read back through nydusd is not what the source's layers say; nothing was put in "
          "place.",
          "See the differences; another version of nydus-image may do better."),
    Entry("NNA1428", "conversion was ended", Exit.FAILED,
          "A signal ended it. Nothing was put into the image's place, and what it had on this machine is "
          "gone.",
          "Begin again; blobs that are in the registry already are not sent again."),
    Entry("NNA1429", "nydus-image cannot be used", Exit.FAILED,
          "It cannot be run, is of a version that takes no tars, or writes a form that is not known here.",
          "Name another one: `--nydus-image`, or install a newer package (`nydus-agent programs --help`)."),
    Entry("NNA1430", "nydusify failed", Exit.FAILED,
          "It cannot be run, ended with an error, or made something else; nothing was put into the image's "
          "place.",
          "See its last lines; without `--with nydusify` nydus-image is used layer by layer."),
)  # fmt: skip
