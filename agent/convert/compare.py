"""Reading every file of a converted image back, against what the source's layers say."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import ConvertError
from agent.oci.tree import TIME, Tree, differences
from agent.ports_convert import Compared, LayerFile, Reader

_SHOWN = 20


def compared(
    layers: Sequence[LayerFile],
    bootstrap: str,
    blobs: Sequence[str],
    reader: Reader,
    untimed: frozenset[str] = frozenset(),
) -> Compared:  # fmt: skip
    """`untimed`: directories whose times the form cannot keep.

    Raises ConvertError: NNA1427 with the first differences, NNA1406, NNA1425.
    """
    expected = Tree()
    for layer in layers:
        expected.add_layer(reader.members(layer))
    found = Tree()
    for member in reader.mounted(bootstrap, blobs):
        assert member.node is not None
        found.add(member.path, member.node)
    wrong = tuple(one for one in differences(expected, found) if one.path not in untimed or one.what != TIME)
    if wrong:
        more = (f"and {len(wrong) - _SHOWN} more",) if len(wrong) > _SHOWN else ()
        raise ConvertError(
            "NNA1427", "the converted image differs from its source",
            cause=f"in {len(wrong)} of {len(expected.nodes)} files", seen=(*map(str, wrong[:_SHOWN]), *more),
        )  # fmt: skip
    return Compared(len(found.nodes), sum(node.size for node in found.nodes.values()))
