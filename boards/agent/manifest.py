"""What a signature says about a bundle: canonical JSON, read strictly."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import Refused

SCHEMA = "edge-bench/manifest/1"
NAMESPACE = "edge-bench-flash"
LARGEST = 1 << 28  # bytes of a bundle


def canonical(value: dict[str, Any]) -> bytes:
    """Return JSON that is the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True)
class Manifest:
    """What is signed.

    Attributes
    ----------
    board : str
        The one board that it is for.
    name : str
        Of the bundle, for people.
    sha256, size
        Of the bundle.
    version : int
        Of what runs on the board; the signer counts.
    runtime : str
        The least version of edge_runtime that it needs.
    front_end : str
        sha256 of the front end's configuration.
    ram : int
        Bytes of memory that it needs there.
    allow_downgrade : bool
        Whether it may go below the version floor.
    counter : int
        That of the board when it was signed; a downgrade is valid for that alone, so it cannot be replayed.
    """

    board: str
    name: str
    sha256: str
    size: int
    version: int
    runtime: str
    front_end: str
    ram: int
    allow_downgrade: bool
    counter: int

    def encode(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical({"schema": SCHEMA, **asdict(self)})

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Return the manifest in signed bytes.

        Raises
        ------
        Refused
            If they are not exactly what `encode` would give.
        """
        try:
            value = json.loads(data)
            if value.pop("schema") != SCHEMA:
                raise Refused(f"the manifest is of another schema than {SCHEMA}: enrol again to renew the agent")
            made = cls(**value)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Refused("the manifest is damaged") from None
        kinds = {"str": str, "int": int, "bool": bool}
        for field in fields(cls):
            given = getattr(made, field.name)
            if type(given) is not kinds[str(field.type)] or (type(given) is int and given < 0):
                raise Refused(f"the manifest's {field.name} makes no sense")
        if made.encode() != data:
            raise Refused("the manifest is not in canonical form")
        if not 0 < made.size <= LARGEST or made.version < 1:
            raise Refused(f"the manifest's size {made.size} or version {made.version} makes no sense")
        return made
