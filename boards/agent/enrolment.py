"""How a board gets its identity and the keys whose signatures it takes, and how these are changed."""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any

from . import disk, service, signatures
from .errors import Refused
from .manifest import canonical
from .store import SLOTS, Store

CONFIG = "edge-bench/board-config/1"
SIGNERS = "edge-bench/signers/1"
NAMESPACE = "edge-bench-enrol"
_KEYS = {"schema": str, "board": str, "profile": str, "ram": int, "flash": int}


def enrol(root: str, data: bytes) -> dict[str, Any]:
    """Set a board up, or renew its budget and service; return its status.

    Parameters
    ----------
    data : bytes
        JSON with ``config``, ``allowed_signers`` and, for a service, ``service``.

    Raises
    ------
    Refused
        If it is enrolled with other keys: `change_signers` is the way to change them.
    """
    try:
        request = json.loads(data)
        config, signers, wanted = dict(request["config"]), str(request["allowed_signers"]), request.get("service")
        good = all(type(config[key]) is kind for key, kind in _KEYS.items()) and config["schema"] == CONFIG
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise Refused("the enrolment is damaged: try again")
    signatures.check_program()
    os.makedirs(os.path.join(root, "slots"), exist_ok=True)
    handle = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        name = os.path.join(root, "allowed_signers")
        if os.path.exists(name) and disk.read(name).decode() != signers:
            raise Refused("this board is enrolled with another key: give that one, too, with --old-key")
        for slot in SLOTS:
            os.makedirs(os.path.join(root, "slots", slot), exist_ok=True)
        try:
            old = json.loads(disk.read(os.path.join(root, "config.json")))
            config["board"] = old["board"]  # an identity stays
            config.setdefault("unit", old.get("unit"))
            config.setdefault("user_unit", old.get("user_unit"))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if wanted:
            config |= _install(os.path.abspath(root), wanted)
        # the keys last: with them the board is enrolled
        disk.put(os.path.join(root, "config.json"), canonical(config))
        if not os.path.exists(name):
            disk.put(name, signers.encode())
        disk.sync_folder(root)
    finally:
        os.close(handle)
    return {**Store(root).status(), "changed": True}


def _install(root: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Install, enable and start the service; return what the configuration keeps of it."""
    command = [str(word) for word in wanted["command"]]
    if not command or command[0] not in service.COMMANDS:
        raise Refused(f"a service runs one of {', '.join(service.COMMANDS)}, not {' '.join(command) or 'nothing'}")
    is_root = os.getuid() == 0
    folder = "/etc/systemd/system" if is_root else os.path.expanduser("~/.config/systemd/user")
    folder = str(wanted.get("folder") or folder)
    name = "edge-bench.service"
    try:
        os.makedirs(folder, exist_ok=True)
        text = service.unit_text(root, command, again_s=int(wanted.get("again_s", 0)), user="root" if is_root else None)
        disk.put(os.path.join(folder, name), text.encode())
    except OSError as error:
        raise Refused(f"{folder}/{name} cannot be written: {error.strerror}; or enrol with --no-service") from None
    config: dict[str, Any] = {"unit": name, "user_unit": not is_root}
    for arguments in (("daemon-reload",), ("enable", name)):
        done = service.systemctl(config, *arguments)
        if done.returncode:
            raise Refused(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}; or enrol with --no-service")
    return config


def change_signers(store: Store, data: bytes) -> dict[str, Any]:
    """Take other keys, if one of the present ones signed that; return the status.

    Bundles that were signed by the keys before stay valid in their slots, but cannot be flashed again.

    Raises
    ------
    Refused
        If the request is not signed by a key of this board, is for another one, or was used before.
    """
    try:
        request = json.loads(data)
        signed, signature = str(request["request"]).encode(), str(request["signature"])
    except (ValueError, KeyError, TypeError):
        raise Refused("the request is damaged: try again") from None
    with store.lock():
        signatures.verify(store.path("allowed_signers"), NAMESPACE, signed, signature)
        try:
            value = json.loads(signed)
            fine = (value["schema"], value["board"], value["counter"]) == (
                SIGNERS, store.config["board"], store.state["counter"],
            )  # fmt: skip
            signers = str(value["allowed_signers"])
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            raise Refused("the request was signed for another board or another moment: sign anew")
        retired = store.path("retired_signers")
        before = disk.read(retired) if os.path.exists(retired) else b""
        disk.put(retired, before + disk.read(store.path("allowed_signers")))
        disk.put(store.path("allowed_signers"), signers.encode())
        store.state["counter"] += 1
        store.save()
        return {**store.status(), "changed": True}
