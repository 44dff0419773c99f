"""Board profiles: what a board has, in one TOML file each, and which of them this machine is.

Throughputs are estimates of what a core does at most; memory and flash are of the smallest variant sold.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Processor:
    """Attributes
    ----------
    core, architecture : str
        Such as ``Cortex-A72`` and ``aarch64``.
    cores : int
    clock_mhz : float
    int8_macs, float_macs : float
        Multiply-accumulates a cycle and core, at most; estimates.
    bandwidth : float
        Bytes a second that a core reads from memory; an estimate.
    """

    core: str
    architecture: str
    cores: int
    clock_mhz: float
    int8_macs: float
    float_macs: float
    bandwidth: float


@dataclass(frozen=True)
class Memory:
    """RAM and flash (or card), bytes."""

    ram: int
    flash: int


@dataclass(frozen=True)
class Runtime:
    """Which Python and which interpreter to install; ``none`` where there is none."""

    python: str
    interpreter: str


@dataclass(frozen=True)
class Budget:
    """What classifying may use: bytes of RAM and flash, and the share of one core's time."""

    ram: int
    flash: int
    real_time_factor: float


@dataclass(frozen=True)
class Profile:
    """A board.

    Attributes
    ----------
    name : str
        That of the file, such as ``pi4``.
    kind : {'linux', 'microcontroller'}
        The latter have budgets and predictions only: nothing of ours runs there.
    device_tree : tuple of str
        How ``/proc/device-tree/model`` begins on it.
    """

    name: str
    title: str
    kind: str
    device_tree: tuple[str, ...]
    transport: str
    note: str
    processor: Processor
    memory: Memory
    runtime: Runtime
    budget: Budget


def names() -> list[str]:
    """Return the names of all boards."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path) -> Profile:
    """Return a board's profile.

    Parameters
    ----------
    name : str or path
        One of `names`, or a TOML file of the user's.

    Raises
    ------
    ConfigError
        If there is no such board, or its file is wrong.

    Examples
    --------
    >>> load("pi4").processor.core
    'Cortex-A72'
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if str(name) not in names():
            raise ConfigError(f"no board is called {str(name)!r}: give one of {', '.join(names())}, or a .toml file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a board's profile: {error}") from None
    return parse(values, path.stem, what=str(path))


def parse(values: dict[str, Any], name: str, *, what: str) -> Profile:
    """Return a profile from the values of a TOML file; see `load`."""
    top = {"title": "", "kind": "", "device_tree": [], "transport": "ssh", "note": "", **values}
    parts = {key: kind for key, kind in _PARTS.items() if isinstance(top.get(key), dict)}
    missing = [key for key in _PARTS if key not in parts]
    unknown = [key for key in top if key not in {f.name for f in fields(Profile)} - {"name"}]
    if missing or unknown:
        raise ConfigError(f"{what}: {f'[{missing[0]}] is missing' if missing else f'{unknown[0]} is no key of it'}")
    if top["kind"] not in ("linux", "microcontroller"):
        raise ConfigError(f"{what}: kind is {top['kind']!r}, must be linux or microcontroller")
    tree = top["device_tree"]
    if not isinstance(tree, list) or not all(isinstance(entry, str) for entry in tree):
        raise ConfigError(f"{what}: device_tree must be a list of texts")
    built: dict[str, Any] = {key: _part(kind, top[key], f"{what}: [{key}]") for key, kind in parts.items()}
    built |= {key: str(top[key]) for key in ("title", "kind", "transport", "note")}
    return Profile(name=name, device_tree=tuple(tree), **built)


_PARTS: dict[str, type[Any]] = {"processor": Processor, "memory": Memory, "runtime": Runtime, "budget": Budget}


def _part(kind: type[Any], values: dict[str, Any], what: str) -> Any:
    wanted = {field.name: str(field.type) for field in fields(kind)}
    for key in (*wanted, *values):
        if key not in values or key not in wanted:
            raise ConfigError(f"{what} {'has no' if key in wanted else 'knows no'} {key}")
        value, text = values[key], wanted[key] == "str"
        if text and not isinstance(value, str):
            raise ConfigError(f"{what} {key} is {value!r}, must be a text")
        whole = wanted[key] == "int"
        if not text and (isinstance(value, bool) or not isinstance(value, int if whole else (int, float))):
            raise ConfigError(f"{what} {key} is {value!r}, must be a {'whole ' if whole else ''}number")
        if not text and not 0 < value < 1e18:
            raise ConfigError(f"{what} {key} is {value!r}, must be above 0")
    return kind(**values)


def detect(root: Path = Path("/")) -> Profile | None:
    """Return the profile of the machine whose file system begins at `root`: by its device tree, else by processor."""
    try:
        model = (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    except OSError:
        model = ""
    found = [(len(prefix), name) for name in names() for prefix in load(name).device_tree if model.startswith(prefix)]
    if found:
        return load(max(found)[1])
    generic = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}.get(platform.machine())
    return load(generic) if generic else None
