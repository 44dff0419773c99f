"""What a power cut leaves of an agent's work: its recorded operations, without those that were not safe yet.

The model of a write-back disk: a file's content is safe after ``sync`` of it, the names in a folder are safe after
``sync_folder`` of it, and before that each may or may not be there, in either order: the names without the content (an
empty file, or half of one), the content without the names, one folder's names without another's.
"""

from __future__ import annotations

import base64
import copy
import json
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class File:
    """Content as the program sees it, and what of it is safe."""

    now: bytes
    safe: bytes | None


@dataclass
class Disk:
    """Folders of names below a root, ``""`` itself: a `File`, or a link's target; `safe` is what of them survives.

    `pending` are changes of names that are not safe yet, in order: (folder, name, what is there afterwards).
    """

    now: dict[tuple[str, str], File | str] = field(default_factory=dict)
    safe: dict[tuple[str, str], File | str] = field(default_factory=dict)
    pending: list[tuple[str, str, File | str | None]] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path) -> Disk:
        """Return the disk that a folder holds, all of it safe."""
        disk = cls()
        for path in sorted(root.rglob("*")):
            place = os.path.split(path.relative_to(root).as_posix())
            if path.is_symlink():
                disk.now[place] = os.readlink(path)
            elif path.is_file():
                disk.now[place] = File(path.read_bytes(), path.read_bytes())
        disk.safe = dict(disk.now)
        return disk

    def _name(self, path: str, value: File | str | None) -> None:
        place = os.path.split(path)
        if value is None:
            self.now.pop(place)
        else:
            self.now[place] = value
        self.pending.append((*place, value))

    def apply(self, kind: str, arguments: list[str]) -> None:
        """Do a recorded operation."""
        place = os.path.split(arguments[0])
        if kind == "write":
            data = base64.b64decode(arguments[1])
            there = self.now.get(place)
            if isinstance(there, File):
                there.now = data
            else:
                self._name(arguments[0], File(data, None))
        elif kind == "sync":
            there = self.now[place]
            assert isinstance(there, File)
            there.safe = there.now
        elif kind == "rename":
            value = self.now[place]
            self._name(arguments[1], value)
            self._name(arguments[0], None)
        elif kind == "link":
            self._name(arguments[1], arguments[0])
        elif kind == "remove":
            self._name(arguments[0], None)
        elif kind == "sync_folder":
            self._settle({arguments[0]})
        else:
            raise ValueError(kind)

    def _settle(self, folders: set[str]) -> None:
        for folder, name, value in self.pending:
            if folder in folders:
                if value is None:
                    self.safe.pop((folder, name), None)
                else:
                    self.safe[folder, name] = value
        self.pending = [entry for entry in self.pending if entry[0] not in folders]

    def survivors(self) -> list[dict[tuple[str, str], bytes | str]]:
        """Return what may be on the medium when the power goes now; no two are equal."""
        folders = sorted({entry[0] for entry in self.pending})
        choices: list[set[str]] = [set(), set(folders), *({folder} for folder in folders)]
        found = []
        for chosen in choices:
            for content in ("safe", "half", "now"):
                disk = copy.deepcopy(self)
                # a rename is one step of the journal: the new name and the loss of the old one go together
                disk._settle(chosen)
                left = {
                    place: value if isinstance(value, str) else _content(value, content)
                    for place, value in disk.safe.items()
                }
                if left not in found:
                    found.append(left)
        return found


def _content(file: File, what: str) -> bytes:
    if what == "now":
        return file.now
    if what == "half" and file.safe != file.now:
        return file.now[: len(file.now) // 2]
    return file.safe or b""


Left = dict[tuple[str, str], "bytes | str"]


def cuts(root: Path, record: Path) -> list[tuple[str, dict[tuple[str, str], bytes | str]]]:
    """Return (when, what is left) of power cuts before and after every operation; no two leave the same.

    `root` is the folder as it was before the recorded operations.
    """
    disk, found, known = Disk.of(root), [], []
    operations = [json.loads(line) for line in record.read_text().splitlines()]
    for number in range(len(operations) + 1):
        for left in disk.survivors():
            if left not in known:
                known.append(left)
                found.append((f"before {number} of {len(operations)}", left))
        if number < len(operations):
            kind, *arguments = operations[number]
            disk.apply(kind, arguments)
    return found


def lay_out(left: dict[tuple[str, str], bytes | str], root: Path) -> None:
    """Write to `root` what is left."""
    for folder in ("", "slots", "slots/a", "slots/b"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for (folder, name), value in left.items():
        path = root / folder / name
        if isinstance(value, str):
            path.symlink_to(value)
        else:
            path.write_bytes(value)
            path.chmod(0o755)
