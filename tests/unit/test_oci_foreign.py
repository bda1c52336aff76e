"""An image that another converter made is taken only where it is a nydus image of the one that it was to be made of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import ConvertError
from agent.oci import foreign, formats

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
NOTE = "containerd.io/snapshot/nydus-"
BLOB = {"mediaType": formats.NYDUS_BLOB, "digest": B, "size": 3, "annotations": {f"{NOTE}blob": "true"}}
BOOTSTRAP = {
    "mediaType": formats.TAR_GZIP,
    "digest": C,
    "size": 4,
    "annotations": {f"{NOTE}bootstrap": "true", f"{NOTE}fs-version": "6"},
}
CONFIG = {"os": "linux", "architecture": "arm64", "config": {"Env": ["A=b"], "Cmd": ["x"], "User": ""}}


def manifest(*layers: dict[str, Any], **changes: Any) -> bytes:
    body = {
        "mediaType": formats.OCI_MANIFEST,
        "config": {"mediaType": formats.OCI_CONFIG, "digest": A, "size": 2},
        "layers": list(layers),
    }
    return json.dumps({**body, **changes}).encode()


def need(**changes: Any) -> None:
    """Of a configuration with these changes, for an image of one blob."""
    made = {**CONFIG, "rootfs": {"diff_ids": [B, A]}, **changes}
    foreign.need_config(made, CONFIG, foreign.parts_of(manifest(BLOB, BOOTSTRAP)), A)


def test_a_nydus_image_is_taken_with_data_and_without_any() -> None:
    parts = foreign.parts_of(manifest(BLOB, BOOTSTRAP))
    assert ([one.digest for one in parts.blobs], parts.bootstrap.digest, parts.config.digest) == ([B], C, A)
    assert foreign.parts_of(manifest(BOOTSTRAP)).blobs == ()
    need()
    need(config={"Env": ["A=b"], "Cmd": ["x"], "Entrypoint": None, "Healthcheck": {}})


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (manifest(), "no layers"),
        (manifest(BLOB), "its last layer is no bootstrap"),
        (manifest(BOOTSTRAP, BOOTSTRAP), "layer 1 is no nydus blob"),
        (manifest({**BLOB, "annotations": {}}, BOOTSTRAP), "layer 1 is no nydus blob"),
        (manifest(BLOB, {**BOOTSTRAP, "annotations": {f"{NOTE}bootstrap": "true"}}), "RAFS version"),
        (manifest(BLOB, BOOTSTRAP, mediaType=formats.DOCKER_MANIFEST), "of the kind"),
    ],
)
def test_what_is_no_nydus_image_is_refused(content: bytes, cause: str) -> None:
    with pytest.raises(ConvertError, match=cause) as raised:
        foreign.parts_of(content)
    assert raised.value.code == "NNA1431"


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({"architecture": "amd64"}, ("another architecture",)),
        ({"config": {"Env": ["A=b"], "Cmd": ["y"], "User": "root"}}, ("another User", "another Cmd")),
        ({"rootfs": {"diff_ids": [B, B]}}, ("does not name the tars",)),
    ],
)
def test_an_image_of_something_else_is_refused_with_everything_in_which_it_differs(
    changes: dict[str, Any], causes: tuple[str, ...]
) -> None:
    with pytest.raises(ConvertError) as raised:
        need(**changes)
    told = (raised.value.cause, *raised.value.seen)
    assert [cause in one for cause, one in zip(causes, told, strict=True)] == [True] * len(causes)
