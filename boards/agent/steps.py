"""Flash, confirm, roll back, recover: the order of steps that leaves a verified bundle active at every moment.

A bundle is read into memory and checked there (signature, board, version floor, sha256, operators, golden vectors)
before the inactive slot is touched. Then: the slot is marked empty; the bundle is written, synced, hashed again from
the medium, and its golden vectors run; the slot is marked ``trial``; the link is switched; the active bundle is loaded
anew and the service restarted; the slot is confirmed, and with the same write the version floor rises.

Whoever comes after a crash calls `recover`: an active slot that is not confirmed gives way to the one that is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from . import disk, service
from .checker import Checker
from .errors import CannotTell, Refused, RolledBack
from .manifest import Manifest
from .store import SLOTS, Store, other

LONGEST_HEADER = 1 << 16
SPARE = 1 << 16  # bytes of disk that stay free, for the state and the log
Say = Callable[[str], None]


def recover(store: Store, say: Say = lambda text: None) -> None:
    """Make a confirmed and intact slot the active one, whatever happened before; hold the lock.

    Raises
    ------
    CannotTell
        If bundles cannot be checked here now: then nothing is changed.
    """
    if store.damaged:
        _rebuild(store, say)
    _tidy(store)
    if any(entry["state"] == "confirmed" for entry in store.state["slots"].values()):
        store.copy_floor()
    slot = store.active()
    if slot is None or store.usable(slot):
        if slot is None and os.path.lexists(store.path("active")):
            store.switch(None)
        if slot is None and (found := _newest(store)) is not None:
            say(f"no slot was active: {found} is now")
            store.switch(found)
        return
    second = other(slot)
    if store.usable(second):
        say(f"slot {slot} is not confirmed or damaged: back to {second}")
        store.switch(second)
    elif store.state["slots"][slot]["state"] == "trial" and _passes(store, slot):
        say(f"slot {slot} passed its checks and is the only one: confirmed")
        store.confirm(slot)
        return
    else:
        say("no slot holds an intact bundle: none is active now")
        store.switch(None)
    store.mark(slot, "empty")


def _newest(store: Store) -> str | None:
    entries = store.state["slots"]
    for slot in sorted(SLOTS, key=lambda s: -int(entries[s]["serial"])):
        if store.usable(slot):
            return slot
    return None


def _passes(store: Store, slot: str) -> bool:
    try:
        store.verify(slot)
        with Checker() as checker:
            checker.ask({"do": "golden", "path": store.bundle(slot)})
    except CannotTell:
        raise
    except Refused as error:
        store.log(str(error))
        return False
    return True


def _rebuild(store: Store, say: Say) -> None:
    """Make a state from what the slots prove, after the old one was lost; the active slot counts as the newer."""
    say("the state was damaged: made anew from the signed slots")
    active = store.active()
    found = {}
    for slot in SLOTS:
        try:
            manifest = store.verify(slot)
        except CannotTell:
            raise
        except Refused as error:
            store.log(str(error))
            continue
        if _passes(store, slot):
            found[slot] = manifest
    state = store.state
    for slot in sorted(found, key=lambda s: (s == active, found[s].version)):
        manifest = found[slot]
        state["counter"] = max(state["counter"] + 1, manifest.counter + 1)
        state["slots"][slot].update(
            state="confirmed", version=manifest.version, sha256=manifest.sha256, name=manifest.name,
            serial=state["counter"],
        )  # fmt: skip
        if manifest.version > state["floor"]["version"]:
            state["floor"] = {"version": manifest.version, "sha256": manifest.sha256}
    store.save()
    store.damaged = False


def _tidy(store: Store) -> None:
    """Remove what an interrupted agent left beside the files it meant to replace."""
    for folder in (store.root, *(store.path("slots", slot) for slot in SLOTS)):
        for name in os.listdir(folder):
            if name.endswith(".part"):
                disk.remove(os.path.join(folder, name))
    for slot in SLOTS:
        if store.state["slots"][slot]["state"] not in ("confirmed", "trial"):
            disk.clear(store.path("slots", slot))


def read_header(stream: BinaryIO) -> tuple[bytes, str]:
    """Return the signed manifest and its signature, which come before the bundle."""
    first = stream.readline(32)
    try:
        lengths = [int(word) for word in first.split()]
    except ValueError:
        lengths = []
    if len(lengths) != 2 or not first.endswith(b"\n") or not all(0 < n <= LONGEST_HEADER for n in lengths):
        raise Refused("the transfer was cut before the manifest, or is none: flash again")
    signed, signature = stream.read(lengths[0]), stream.read(lengths[1])
    if len(signature) != lengths[1]:
        raise Refused("the transfer was cut within the manifest: flash again")
    return signed, signature.decode("ascii", errors="replace")


def admit(store: Store, signed: bytes, signature: str) -> Manifest:
    """Return the manifest, if it is signed, for this board, and within its budget.

    Raises
    ------
    Refused
        If not.
    """
    store.verify_signed(signed, signature)
    manifest = Manifest.parse(signed)
    config = store.config
    if manifest.board != config["board"]:
        raise Refused(f"the manifest is for board {manifest.board}, this one is {config['board']}")
    for what, needs, has in (("flash", 2 * manifest.size, config["flash"]), ("RAM", manifest.ram, config["ram"])):
        if needs > has:
            raise Refused(f"the bundle needs {needs} bytes of {what}, the budget of {config['profile']} is {has}")
    return manifest


def follows(store: Store, manifest: Manifest) -> None:
    """Check the version: above the floor anything goes; other versions only when they were signed for this moment.

    Raises
    ------
    Refused
        If it is an old version, or a manifest that was used before.
    """
    floor, version = store.state["floor"], manifest.version
    if version > floor["version"]:
        return
    if version < floor["version"] and not manifest.allow_downgrade:
        raise Refused(
            f"version {version} is below the floor {floor['version']}: an old or replayed manifest; sign anew with "
            "--allow-downgrade if it is meant"
        )
    if version == floor["version"] and manifest.sha256 != floor["sha256"]:
        raise Refused(f"version {version} was confirmed with another content: give a higher --version")
    if manifest.counter != store.state["counter"]:
        raise Refused(f"version {version} was signed for an earlier moment: a replayed manifest; sign anew")


def receive(stream: BinaryIO, manifest: Manifest) -> bytes:
    """Return the bundle behind the header, if it is whole and the one that was signed."""
    payload = stream.read(manifest.size + 1)
    if len(payload) < manifest.size:
        raise Refused(f"the transfer was cut: {len(payload)} of {manifest.size} bytes came; flash again")
    if len(payload) > manifest.size or hashlib.sha256(payload).hexdigest() != manifest.sha256:
        raise Refused("the bundle that came is not the one that was signed: altered on its way; flash again")
    return payload


def flash(store: Store, stream: BinaryIO, say: Say = lambda text: None) -> dict[str, Any]:
    """Take a bundle from `stream`, make it the active one and confirm it; return the status, with ``changed``.

    Raises
    ------
    Refused
        If it is not taken: the board is as it was.
    RolledBack
        If it failed after the switch: the board runs what it ran before.
    """
    with store.lock():
        recover(store, say)
        signed, signature = read_header(stream)
        manifest = admit(store, signed, signature)
        previous = store.active()
        if previous is not None:
            there = store.state["slots"][previous]
            if (there["version"], there["sha256"]) == (manifest.version, manifest.sha256):
                say(f"version {manifest.version} is active already: nothing to do")
                return {**store.status(), "changed": False}
        follows(store, manifest)
        say("manifest signed, for this board and new enough")
        payload = receive(stream, manifest)
        slot = other(previous)
        with Checker() as checker:
            found = checker.ask({"do": "golden"}, payload)
            _suits(manifest, found)
            say(f"runs here: {found['backend']} {found['backend_version']}, golden vectors match")
            _room(store, slot, len(payload) + len(signed) + len(signature))
            try:
                store.mark(slot, "empty")
                disk.clear(store.path("slots", slot))
                store.fill(slot, payload, signed, signature)
                store.state["slots"][slot].update(
                    version=manifest.version, sha256=manifest.sha256, name=manifest.name, state="written"
                )
                store.verify(slot)
                checker.ask({"do": "golden", "path": store.bundle(slot)})
                store.mark(slot, "trial", manifest)
            except (OSError, Refused) as error:
                _abandon(store, slot)
                raise _as_refused(error) from None
        say(f"slot {slot} written, read back and tried")
        _activate(store, slot, previous, say)
        store.log(f"version {manifest.version} ({manifest.name}, {manifest.sha256}) is confirmed in slot {slot}")
        return {**store.status(), "changed": True}


def _suits(manifest: Manifest, found: dict[str, Any]) -> None:
    if found["front_end"] != manifest.front_end:
        raise Refused("the bundle's front end is not the one that was signed")
    if _numbers(found["runtime"]) < _numbers(manifest.runtime):
        raise Refused(
            f"the bundle needs edge_runtime {manifest.runtime}, this board has {found['runtime']}: update it there"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def _room(store: Store, slot: str, size: int) -> None:
    folder = store.path("slots", slot)
    there = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    free = disk.free(store.root) + there
    if free < size + SPARE:
        raise Refused(f"the disk there is full: {free} bytes are free, {size + SPARE} are needed; make room")


def _as_refused(error: OSError | Refused) -> Refused:
    if isinstance(error, Refused):
        return error
    return Refused(f"the disk there fails: {error.strerror or error} ({error.filename or 'write'})")


def _abandon(store: Store, slot: str) -> None:
    """Give an inactive slot up; if even that fails, the next `recover` does it."""
    try:
        disk.clear(store.path("slots", slot))
        store.mark(slot, "empty")
    except OSError as error:
        store.log(f"slot {slot} could not be cleared: {error}")


def _activate(store: Store, slot: str, previous: str | None, say: Say) -> None:
    """Switch to a slot that is on trial, try it as its user would, and confirm it; else go back."""
    try:
        store.switch(slot)
        say(f"slot {slot} is active, on trial")
        _health(store)
        store.confirm(slot)
    except (OSError, Refused) as error:
        went, failed = f"rolled back to slot {previous or 'none'}", store.state["slots"][slot]["version"]
        try:
            store.switch(previous)
            store.mark(slot, "empty")
            service.restart(store.config)
        except Refused as second:
            went += f", where {second}, too"
        except OSError as second:
            went = f"going back to slot {previous or 'none'} did not work at once ({second}), recover will do it"
        store.log(f"version {failed} failed: {error}; {went}")
        raise RolledBack(f"{_as_refused(error)}; {went}") from None


def _health(store: Store) -> None:
    """Load the active bundle in a new process, as the service does, and see that the service comes up."""
    with Checker() as checker:
        checker.ask({"do": "golden", "path": store.path("active", "bundle.tflite")})
    service.restart(store.config)


def rollback(store: Store, say: Say = lambda text: None) -> dict[str, Any]:
    """Go back to the slot that was confirmed before the active one; the version floor stays.

    Raises
    ------
    Refused
        If there is none, or it is no longer intact.
    """
    with store.lock():
        recover(store, say)
        slot = store.active()
        if slot is None:
            raise Refused("no slot is active: nothing to go back from; flash a bundle")
        target = other(slot)
        entries = store.state["slots"]
        if entries[target]["state"] != "confirmed" or entries[target]["serial"] > entries[slot]["serial"]:
            raise Refused(f"there is nothing older than version {entries[slot]['version']} in slot {slot}: flash one")
        store.verify(target)
        with Checker() as checker:
            checker.ask({"do": "golden", "path": store.bundle(target)})
        try:
            store.switch(target)
            say(f"slot {target} is active")
            _health(store)
        except (OSError, Refused) as error:
            store.switch(slot)
            raise RolledBack(f"{_as_refused(error)}; still slot {slot}") from None
        store.state["counter"] += 1  # what was signed for the moment before is void
        store.save()
        store.log(f"rolled back from version {entries[slot]['version']} to {entries[target]['version']}")
        return {**store.status(), "changed": True}
