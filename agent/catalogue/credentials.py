"""Errors of registries' credentials (12)."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
    Entry("NNA1201", "credentials cannot be read", Exit.USAGE,
          "The file that holds them, or the credential of systemd that the configuration names, is not "
          "there, not a "
          "regular file or not readable.",
          "Look at the named file; `registries.credentials` says where credentials are."),
    Entry("NNA1202", "credentials cannot be used as they are", Exit.USAGE,
          "Others may read or change the file, or docker's configuration in it is wrong; all problems are "
          "shown at "
          "once, and never a value.",
          "Correct what is named: `chmod 600`, `chown root:root`, or log in again."),
    Entry("NNA1203", "credential helper failed", Exit.FAILED,
          "docker's configuration names a program that keeps the credential. It is not in PATH, ended with "
          "an error, "
          "did not end in time or did not answer as helpers do.",
          "Run it by hand: `echo REGISTRY | docker-credential-NAME get`. What it prints is a secret."),
    Entry("NNA1204", "token server cannot be used", Exit.FAILED,
          "The registry wants a token from a server that did not answer, answered without one, or lies "
          "where no "
          "credential is sent (plain http for an https registry, a link-local address).",
          "Ask the named URL with `curl`; whoever runs the registry configures it (`auth.token.realm`)."),
    Entry("NNA1205", "registry refuses this node", Exit.FAILED,
          "It wants a credential and there is none for it, or the one that was found is wrong, expired, or "
          "not enough "
          "for this repository.",
          "The message names every source that was tried. Log in where the node looks: "
          "`docker --config DIRECTORY login REGISTRY`, or write the entry by hand."),
    Entry("NNA1206", "credential does not reach nydusd", Exit.NOT_AS_WANTED,
          "The registry lets us in, but the snapshotter takes only a user with a password from docker's "
          "configuration, "
          "and looks for one exact name: for Docker Hub `docker.io` since v0.15.12, `index.docker.io` "
          "before.",
          "Add the entry that the message names, or log in with a user and a password."),
    Entry("NNA1207", "credential expires and is not renewed", Exit.NOT_AS_WANTED,
          "A helper gives it, or its password is a token of some hours, and a running nydusd keeps what it "
          "was started "
          "with: after that, cold reads of running containers fail with EIO (401 in nydusd's log). New ones "
          "are "
          "handed on only by a snapshotter from 0.15.14 on, and only to a nydusd from 2.4.1 on.",
          "Install newer programs (`nydus-agent programs --help`), apply, and replace the pods of the named "
          "images where their nydusd is older; or give the node a credential that does not expire."),
)  # fmt: skip
