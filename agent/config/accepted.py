"""The part of a configuration that a node is changed for, as a generation's record keeps it.

After a rollback, or before a changed agent.toml is applied, the node is as an earlier configuration wanted
it: whoever judges the node must judge it by that one. What only the daemon reads (thresholds, endpoints, the
fleet) is not kept. Where containerd's socket is, and whether it may be restarted, is the operator's present
word; the recorded one counts where that cannot be had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import cast

from agent.config.fields import Complaints, build, read_table
from agent.config.model import Config
from agent.outside_json import json_value

_TABLES = ("mirror", "registries", "containerd", "snapshotter", "programs")
_DAEMONS = {"mirror": ("health", "refusals")}
"""Keys that are not recorded."""


def record(config: Config) -> dict[str, object]:
    """As a tree of plain values, for JSON."""
    tree = {
        table: {
            key: value
            for key, value in asdict(getattr(config, table)).items()
            if key not in _DAEMONS.get(table, ())
        }
        for table in _TABLES
    }
    plain: dict[str, object] = json_value(json.dumps(tree))
    return plain


def restored(present: Config | None, recorded: Mapping[str, object] | None) -> Config:
    """`present` with what was recorded in its place; None: it cannot be had, the defaults stand for what is
    not recorded. A key that this version does not know is left out.
    """
    if recorded is None:
        return present or Config()
    then = cast("Config", build(Config, read_table(Config, recorded, Complaints("record"))))
    if present is None:
        return then
    return replace(
        present,
        mirror=replace(then.mirror, health=present.mirror.health, refusals=present.mirror.refusals),
        registries=then.registries,
        containerd=replace(
            then.containerd, address=present.containerd.address, restart=present.containerd.restart
        ),
        snapshotter=then.snapshotter,
        programs=then.programs,
    )  # fmt: skip


def same(one: Mapping[str, object] | None, other: Mapping[str, object] | None) -> bool:
    """Whether two records want the same of a node; a record of an older version lacks keys, which have their
    defaults.

    None is a record that says nothing.
    """
    if one is None or other is None or one == other:
        return True
    return record(restored(Config(), one)) == record(restored(Config(), other))
