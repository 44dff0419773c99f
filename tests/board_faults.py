"""Breaks an agent on a board, case by case: ``python -I -S board_faults.py FOLDER AGENT.pyz [CHECK_SOCKET]``.

Runs on the board (here under sshd, or on an emulated one) and needs the standard library alone. Cases come as lines of
JSON on standard input, results go as lines to standard output. FOLDER has ``templates/NAME`` (boards to begin with)
and ``parcels/NAME`` (what a flash sends).

A case copies a template, changes files (``edit``), runs the installed agent with a fault (``plan``), looks what is
active, runs the agent's ``recover`` and looks again, and flashes the parcel ``next``. Each agent is a process of its
own. Its operations (every change on disk, every signature, every check, the end of the transfer) are counted from
outside and the plan says what happens ``at`` one of them.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import types

FOLDER, PROGRAM = sys.argv[1:3]
SERVER = sys.argv[3] if len(sys.argv) > 3 else None
sys.path.insert(0, PROGRAM)
from agent import checker, disk, main, signatures, steps  # noqa: E402

CHANGES = ("write", "sync", "sync_folder", "rename", "link", "remove", "make_folder")
ROOM = ("write", "link", "make_folder")  # what a full disk refuses


class Preloaded:
    """Stands for a check process that was started before (see board_check_server.py), and saves its imports."""

    def __init__(self, *arguments, **options) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(SERVER)
        self.stdin = self._socket.makefile("wb", buffering=0)
        self.stdout = self._socket.makefile("rb", buffering=0)
        self.stderr = open(os.devnull, "rb", buffering=0)  # noqa: SIM115
        self.returncode = None

    def poll(self):
        return self.returncode

    def kill(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has ended already
            pass
        self.returncode = -9

    def wait(self):
        self._socket.close()
        return self.returncode


class Faults:
    """Counts operations, and does what the plan says at one of them."""

    def __init__(self, plan: dict, root: str) -> None:
        self.plan, self.root, self.count, self.kinds = plan, root, 0, []
        for name in CHANGES:
            self.wrap(disk, name)
        self.wrap(signatures, "verify")
        self.wrap(steps, "receive")
        self.wrap(checker.Checker, "ask")
        if SERVER:
            checker.subprocess = types.SimpleNamespace(Popen=Preloaded, PIPE=None)

    def wrap(self, place, name: str) -> None:
        before = getattr(place, name)
        setattr(place, name, lambda *a, **o: self.around(name, before, *a, **o))

    def around(self, kind: str, work, *arguments, **options):
        plan, number = self.plan, self.count
        self.count += 1
        self.kinds.append(kind)
        do = plan.get("do") if number == plan.get("at") else None
        if do == "kill-before":
            die()
        if plan.get("do") == "full" and number >= plan["at"] and kind in ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])
        if do == "error" and kind in CHANGES:
            raise OSError(errno.EIO, os.strerror(errno.EIO), arguments[0])
        if do == "torn" and kind == "write":
            work(arguments[0], arguments[1][: len(arguments[1]) // 2])
            die()
        if do == "flip" and kind == "write":
            data = bytearray(arguments[1])
            data[len(data) // 2] ^= 1
            arguments = (arguments[0], bytes(data))
        if do == "crash-check" and kind == "ask":
            arguments[0]._process.kill()
        if do == "pause":
            time.sleep(plan["seconds"])
        if kind in CHANGES and "record" in plan:
            values = [self.plain(a) for a in arguments]
            with open(plan["record"], "a", encoding="utf-8") as file:
                file.write(json.dumps([kind, *values]) + "\n")
        result = work(*arguments, **options)
        if do == "kill-after":
            die()
        return result


    def plain(self, value) -> str:
        """Return an argument as text: a path below the root without it, bytes in base64."""
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value[len(self.root) :].lstrip("/") if value.startswith(self.root) else value


def die() -> None:
    """End at once, as a killed process does."""
    os.kill(os.getpid(), signal.SIGKILL)


def agent(root: str, command: list, data: bytes, plan: dict) -> dict:
    """Run the agent in a process of its own and return how it ended."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(data)
        source.seek(0)
        child = os.fork()
        if child == 0:
            for handle, file in enumerate((source, out, err)):
                os.dup2(file.fileno(), handle)
            sys.stdin = os.fdopen(0, closefd=False)
            os.environ["PATH"] = plan.get("path", os.environ.get("PATH", ""))
            faults, code = Faults(plan, root), 70
            try:
                code = main.main([root, *command])
            finally:
                os.write(2, json.dumps(faults.kinds).encode())
                os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        said, lines = out.read(), err.read().decode().splitlines()
    return {
        "code": os.waitstatus_to_exitcode(status), "answer": json.loads(said) if said else None,
        "kinds": json.loads(lines[-1]) if lines and lines[-1].startswith("[") else [],
    }  # fmt: skip


def look(root: str) -> dict:
    """Return the sha256 of what is active and a checksum of all that matters; reads nothing through the agent."""
    total = hashlib.sha256()
    slots = [f"slots/{s}/{name}" for s in "ab" for name in sorted(os.listdir(f"{root}/slots/{s}"))]
    for name in ("state.json", "floor", *slots):
        if os.path.exists(f"{root}/{name}"):
            total.update(f"{name} {file_sha256(f'{root}/{name}')}\n".encode())
    link = os.readlink(f"{root}/active") if os.path.islink(f"{root}/active") else ""
    total.update(link.encode())
    active = f"{root}/active/bundle.tflite"
    return {"active": file_sha256(active) if os.path.exists(active) else None, "files": total.hexdigest()}


def file_sha256(name: str) -> str:
    with open(name, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def edit(root: str, change: dict) -> None:
    """Change a file: ``flip`` the byte at a share of its length, ``cut`` it there, ``write`` text, or ``remove`` it."""
    name = f"{root}/{change['file']}"
    if "remove" in change:
        os.unlink(name)
        return
    if "link" in change:
        if os.path.lexists(name):
            os.unlink(name)
        os.symlink(change["link"], name)
        return
    data = bytearray()
    if "write" not in change:
        with open(name, "rb") as file:
            data = bytearray(file.read())
    if "flip" in change:
        data[min(len(data) - 1, int(change["flip"] * len(data)))] ^= 1
    elif "cut" in change:
        del data[int(change["cut"] * len(data)) :]
    else:
        data = bytearray(change["write"].encode())
    with open(name, "wb") as file:
        file.write(data)


def parcel(case: dict) -> bytes:
    """Return what the faulty flash gets: a parcel, cut short or with a bit flipped."""
    if "parcel" not in case:
        return b""
    with open(f"{FOLDER}/parcels/{case['parcel']}", "rb") as file:
        data = bytearray(file.read())
    if "cut" in case:
        del data[case["cut"] :]
    if "flip" in case:
        data[case["flip"]] ^= 1 << case["flip"] % 8
    return bytes(data + case.get("more", "").encode())


def run(case: dict, root: str) -> dict:
    """Run a case and return what was seen."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(f"{FOLDER}/templates/{case.get('template', 'flashed')}", root, symlinks=True)
    for change in case.get("edit", []):
        edit(root, change)
    before = look(root)
    result = {"id": case["id"]}
    if case.get("command"):
        result["fault"] = agent(root, case["command"], parcel(case), case.get("plan", {}))
    after = look(root)
    result |= {"same": after["files"] == before["files"], "active": after["active"]}
    result["recover"] = agent(root, ["recover"], b"", {})
    result["recovered"] = look(root)["active"]
    if "next" in case:
        with open(f"{FOLDER}/parcels/{case['next']}", "rb") as file:
            result["flash"] = agent(root, ["flash"], file.read(), {})
        result["flashed"] = look(root)["active"]
    return result


if __name__ == "__main__":
    place = tempfile.mkdtemp(dir=FOLDER)
    for line in sys.stdin.buffer.readlines():
        print(json.dumps(run(json.loads(line), f"{place}/root")), flush=True)
    shutil.rmtree(place)
