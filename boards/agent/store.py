"""The two slots, the link to the active one, and the state: what is on the board's disk and what it means.

What a slot holds counts only when `state.json` says ``confirmed``, and is used only when its bundle has the sha256 of
its manifest and the manifest has a good signature.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from . import disk, signatures
from .errors import CannotTell, Refused
from .manifest import NAMESPACE, Manifest, canonical

STATE = "edge-bench/board-state/1"
SLOTS = ("a", "b")
EMPTY: dict[str, Any] = {"state": "empty", "version": 0, "sha256": "", "name": "", "serial": 0}
LONGEST_LOG = 1 << 18


def other(slot: str | None) -> str:
    """Return the slot that is not `slot`."""
    return "b" if slot == "a" else "a"


class Store:
    """A board's folder.

    Attributes
    ----------
    config : dict
        ``board`` (its id), ``profile``, ``ram``, ``flash``, ``unit``, ``user_unit``.
    state : dict
        ``counter`` (confirmations and rollbacks so far), ``floor`` {version, sha256}, ``slots``.
    damaged : bool
        Whether `state.json` could not be read, so that `state` only says what `floor` says.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        try:
            self.config: dict[str, Any] = json.loads(disk.read(self.path("config.json")))
            self.config["board"]
        except FileNotFoundError:
            raise Refused(f"{root}: no board is enrolled here: edge-bench board enrol") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"{root}/config.json is damaged ({error}): enrol again") from None
        self.load()

    def path(self, *parts: str) -> str:
        """Return a path below the folder."""
        return os.path.join(self.root, *parts)

    def bundle(self, slot: str) -> str:
        """Return the path of a slot's bundle."""
        return self.path("slots", slot, "bundle.tflite")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other agent out.

        Raises
        ------
        Refused
            If one is at work.
        """
        handle = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused("another flash or rollback is at work on this board: wait for it") from None
            self.load()
            yield
        finally:
            os.close(handle)

    def load(self) -> None:
        """Read the state anew."""
        self.damaged = False
        try:
            value = json.loads(disk.read(self.path("state.json")))
            total = value.pop("sum")
            if total != hashlib.sha256(canonical(value)).hexdigest() or value["schema"] != STATE:
                raise ValueError("its checksum does not match")
            self.state: dict[str, Any] = value
        except FileNotFoundError:
            self.damaged = self.active() is not None
            self.state = self._fresh()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.damaged = True
            self.state = self._fresh()

    def _fresh(self) -> dict[str, Any]:
        try:
            version, sha256 = disk.read(self.path("floor")).decode().split()
            floor = {"version": int(version), "sha256": sha256}
        except (OSError, ValueError):
            floor = {"version": 0, "sha256": ""}
        return {"schema": STATE, "counter": 0, "floor": floor, "slots": {slot: dict(EMPTY) for slot in SLOTS}}

    def save(self) -> None:
        """Write the state; afterwards it is safe."""
        total = hashlib.sha256(canonical(self.state)).hexdigest()
        disk.put(self.path("state.json"), canonical({**self.state, "sum": total}))

    def mark(self, slot: str, state: str, manifest: Manifest | None = None) -> None:
        """Say what a slot holds, and save."""
        entry = dict(EMPTY) if manifest is None else {
            **EMPTY, "version": manifest.version, "sha256": manifest.sha256, "name": manifest.name,
        }  # fmt: skip
        self.state["slots"][slot] = {**entry, "state": state}
        self.save()

    def confirm(self, slot: str) -> None:
        """Confirm a slot and raise the version floor with it: one write."""
        entry = self.state["slots"][slot]
        self.state["counter"] += 1
        entry.update(state="confirmed", serial=self.state["counter"])
        if entry["version"] >= self.state["floor"]["version"]:
            self.state["floor"] = {"version": entry["version"], "sha256": entry["sha256"]}
        self.save()
        try:
            self.copy_floor()
        except OSError as error:  # it is confirmed all the same, and recover makes the copy
            self.log(f"the copy of the floor: {error}")

    def copy_floor(self) -> None:
        """Keep the floor a second time, in case `state.json` is damaged."""
        floor = self.state["floor"]
        text = f"{floor['version']} {floor['sha256'] or '-'}\n".encode()
        try:
            if disk.read(self.path("floor")) == text:
                return
        except OSError:
            pass
        disk.put(self.path("floor"), text)

    def active(self) -> str | None:
        """Return the slot that the link points to, if any."""
        try:
            name = os.path.basename(os.readlink(self.path("active")))
        except OSError:
            return None
        return name if name in SLOTS else None

    def switch(self, slot: str | None) -> None:
        """Make a slot the active one; None: no slot."""
        if slot is not None:
            disk.point(self.path("active"), os.path.join("slots", slot))
        elif os.path.lexists(self.path("active")):
            disk.remove(self.path("active"))
            disk.sync_folder(self.root)

    def fill(self, slot: str, payload: bytes, manifest: bytes, signature: str) -> None:
        """Write a bundle and what was signed about it to a slot; afterwards they are safe."""
        folder = self.path("slots", slot)
        for name, data in (
            ("bundle.tflite", payload), ("manifest.json", manifest), ("manifest.sig", signature.encode()),
        ):  # fmt: skip
            disk.put(os.path.join(folder, name), data)

    def verify(self, slot: str) -> Manifest:
        """Check a slot's signature, and that its bundle is what was signed; return the manifest.

        Raises
        ------
        Refused
            If anything is missing or altered.
        """
        folder = self.path("slots", slot)
        try:
            signed = disk.read(os.path.join(folder, "manifest.json"))
            signature = disk.read(os.path.join(folder, "manifest.sig")).decode(errors="replace")
            found = disk.sha256(self.bundle(slot), from_medium=True)
        except OSError as error:
            raise Refused(f"slot {slot} cannot be read: {error.strerror or error}") from None
        self.verify_signed(signed, signature, retired=True)
        manifest = Manifest.parse(signed)
        if manifest.board != self.config["board"]:
            raise Refused(f"slot {slot} was signed for board {manifest.board}")
        if found != manifest.sha256:
            raise Refused(f"slot {slot}: the bundle's sha256 is not what was signed: altered or damaged storage")
        entry = self.state["slots"][slot]
        if not self.damaged and (entry["sha256"], entry["version"]) != (manifest.sha256, manifest.version):
            raise Refused(f"slot {slot} holds another bundle than the state says: altered storage")
        return manifest

    def verify_signed(self, signed: bytes, signature: str, *, retired: bool = False) -> None:
        """Check a manifest's signature; `retired`: by a key that was exchanged since, too."""
        old = self.path("retired_signers")
        try:
            signatures.verify(self.path("allowed_signers"), NAMESPACE, signed, signature)
        except CannotTell:
            raise
        except Refused:
            if not retired or not os.path.exists(old):
                raise
            signatures.verify(old, NAMESPACE, signed, signature)

    def usable(self, slot: str) -> bool:
        """Return whether a slot is confirmed and intact.

        Raises
        ------
        CannotTell
            If signatures cannot be checked here now.
        """
        if self.state["slots"][slot]["state"] != "confirmed":
            return False
        try:
            self.verify(slot)
        except CannotTell:
            raise
        except Refused as error:
            self.log(str(error))
            return False
        return True

    def log(self, text: str) -> None:
        """Add a line to the log; a full disk is no reason to stop."""
        name = self.path("log")
        try:
            if os.path.getsize(name) > LONGEST_LOG:
                os.replace(name, name + ".1")
        except OSError:
            pass
        try:
            with open(name, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
        except OSError:
            pass

    def _signers(self) -> str:
        try:
            return disk.sha256(self.path("allowed_signers"))
        except OSError:
            return ""

    def status(self) -> dict[str, Any]:
        """Return ``edge-bench/board-status/1``."""
        slot = self.active()
        entry = self.state["slots"][slot] if slot else {**EMPTY, "state": "none"}
        return {
            "schema": "edge-bench/board-status/1", "board": self.config["board"], "profile": self.config["profile"],
            "slot": slot, **{key: entry[key] for key in ("version", "sha256", "name", "state")},
            "slots": self.state["slots"], "floor": self.state["floor"], "counter": self.state["counter"],
            "unit": self.config.get("unit"), "signers": self._signers(), "damaged": self.damaged,
        }  # fmt: skip
