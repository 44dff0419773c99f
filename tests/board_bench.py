"""A board to break, on any transport, and the judge of what became of it; see board_faults.py for what runs there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_bench.boards import enrol, flashing
from edge_bench.boards.agent.manifest import Manifest
from edge_bench.boards.profile import Profile
from edge_bench.boards.transport import Transport
from edge_runtime.bundle import Bundle, read

HERE = Path(__file__).parent
Case = dict[str, Any]


def make_key(path: Path) -> Path:
    """Make an SSH key without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


class CheckServer:
    """See board_check_server.py."""

    def __init__(self, folder: Path) -> None:
        self.socket = f"{folder}/check"
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "board_check_server.py"), self.socket], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Bench:
    """A board: template ``empty`` is enrolled, ``flashed`` runs `old` as version 1, ``two`` runs `new` as version 2.

    Parameters
    ----------
    transport : Transport
    profile : Profile
    folder : Path
        Of this machine, for keys.
    there : str
        An absolute folder on the board, made and used by the bench alone.
    python : str
        The board's Python, with edge_runtime.
    server : str, optional
        Socket of a `CheckServer`, where the board is this machine.
    """

    def __init__(
        self, transport: Transport, profile: Profile, folder: Path, there: str, python: str, *,
        server: str | None = None,
    ) -> None:  # fmt: skip
        self.transport, self.profile, self.python, self.there = transport, profile, python, there
        self.old, self.new = read("swishnet-slim-int8"), read("swishnet-wide-int8")
        self.root, self._server = f"{there}/root", [server] if server else []
        self.key, self.stranger = make_key(folder / "signer"), make_key(folder / "stranger")
        self.do(["mkdir", "-p", f"{there}/templates", f"{there}/parcels"])
        transport.put(HERE / "board_faults.py", f"{there}/board_faults.py")
        self.status = enrol.enrol(transport, profile, [self.key], root=self.root, python=python)
        self._keep("empty")
        flashing.flash(transport, self.old, profile, self.key, root=self.root)
        self.status = flashing.ask(transport, self.root, ["status"])
        self._keep("flashed")
        self.sizes: dict[str, int] = {}
        self.headers: dict[str, bytes] = {}
        self.parcel("new", self.manifest())
        self.parcel("next", self.manifest(version=9))
        old = Path(self.old.path).read_bytes()
        self.parcel("third", self.manifest(self.old, version=5), payload=old)
        self.send_file(self.root, "new")
        self._keep("two")

    def _keep(self, name: str) -> None:
        self.do(["cp", "-a", self.root, f"{self.there}/templates/{name}"])

    def send_file(self, root: str, name: str) -> None:
        """Flash a parcel that lies on the board with the installed agent, and nothing of ours between."""
        self.do(["sh", "-c", '"$1/agent" flash < "$2"', "sh", root, f"{self.there}/parcels/{name}"])

    def do(self, argv: list[str], **options: Any) -> bytes:
        """Run a command on the board that must work."""
        done = self.transport.run(argv, timeout_s=900, **options)
        assert done.code == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def manifest(self, bundle: Bundle | None = None, **changes: Any) -> Manifest:
        """Return the manifest for flashing `new` onto ``flashed``, with changes."""
        made = flashing.manifest_for(bundle or self.new, self.status, self.profile)
        return dataclasses.replace(made, **changes)

    def parcel(
        self, name: str, manifest: Manifest | None = None, *, payload: bytes | None = None, key: Path | None = None,
        signed: bytes | None = None, namespace: str = "edge-bench-flash", altered: bytes | None = None,
    ) -> str:  # fmt: skip
        """Put on the board what a flash sends, and return its name: signed by the right key, unless told otherwise.

        `altered` takes the place of the manifest after it was signed.
        """
        if name in self.sizes:
            return name
        signed = signed if signed is not None else (manifest or self.manifest()).encode()
        signature = flashing.sign(signed, key or self.key, namespace).encode()
        shown = altered if altered is not None else signed
        data = f"{len(shown)} {len(signature)}\n".encode() + shown + signature
        self.sizes[name], self.headers[name] = len(data), data
        with tempfile.NamedTemporaryFile() as file:
            file.write(data + (Path(self.new.path).read_bytes() if payload is None else payload))
            file.flush()
            self.transport.put(file.name, f"{self.there}/parcels/{name}")
        return name

    def run(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Run cases there, in one command, and return what was seen."""
        driver, program = f"{self.there}/board_faults.py", f"{self.root}/agent.pyz"
        argv = [self.python, "-I", "-S", driver, self.there, program, *self._server]
        said = self.do(argv, stdin="".join(json.dumps(case) + "\n" for case in cases).encode())
        seen = [json.loads(line) for line in said.splitlines()]
        assert [s["id"] for s in seen] == [c["id"] for c in cases]
        return seen

    def judge(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Run cases and hold them to the promise: a verified bundle is active all the time, and the next flash works.

        A case's ``wants`` adds: ``killed``; ``refused`` with ``said``, nothing written; ``rolled-back``; ``fine``.
        """
        # what is flashed differs from what is active, so that it can be told which one is
        fresh = {"flashed": "new", "empty": "new", "two": "third"}
        seen = self.run(
            [{"command": ["flash"], "parcel": fresh.get(case.get("template", "flashed")), "next": "next", **case}
             for case in cases]
        )  # fmt: skip
        old, new = self.old.sha256, self.new.sha256
        for case, s in zip(cases, seen, strict=True):
            begun = case.get("begun", case.get("template", "flashed"))
            sound = {"flashed": (old, new), "two": (new, old), "empty": (None, new)}[begun]
            assert s["active"] in sound or case.get("edit"), (case, s)
            assert s["recovered"] in sound and s["recover"]["code"] == 0, (case, s)
            if s["recovered"] is not None:
                assert s["recover"]["answer"]["state"] == "confirmed", (case, s)
            if "next" in s or "flash" in s:
                ended = s["flash"]
                assert (ended["code"], s["flashed"]) == (0, new), (case, s)
                assert (ended["answer"]["state"], ended["answer"]["version"]) == ("confirmed", 9), (case, s)
            wants = case.get("wants")
            if wants == "killed":
                assert s["fault"]["code"] == -9, (case, s)
            elif wants == "refused":
                assert s["fault"]["code"] == 2 and s["same"], (case, s)
                assert case["said"] in s["fault"]["answer"]["error"], (case, s)
            elif wants == "rolled-back":
                assert s["fault"]["code"] in (1, 2) and s["fault"]["answer"]["error"], (case, s)
                assert s["recovered"] == sound[0], (case, s)
            elif wants == "fine":
                assert s["fault"]["code"] == 0, (case, s)
        return seen
