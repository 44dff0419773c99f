"""Set a board up once: the agent there, an identity, a budget, and the keys whose signatures it takes."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shlex
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import BoardError, ConfigError

from .agent import enrolment
from .agent.manifest import NAMESPACE, canonical
from .agent.signatures import PRINCIPAL
from .flashing import ROOT, ask, sign
from .profile import Profile
from .transport import Transport

AGENT = Path(__file__).parent / "agent"
_PROBE = "import json, sys, edge_runtime; print(json.dumps([list(sys.version_info[:2]), edge_runtime.__version__]))"


def agent_file() -> bytes:
    """Return the agent as one file that Python runs; the same bytes from the same sources."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, text: str) -> None:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)

        add("__main__.py", "import sys\n\nfrom agent.main import main\n\nsys.exit(main(sys.argv[1:]))\n")
        for path in sorted(AGENT.glob("*.py")):
            add(f"agent/{path.name}", path.read_text(encoding="utf-8"))
    return file.getvalue()


def launcher(python: str) -> str:
    """Return the script that runs the agent with the board's Python, whatever the folder's name is."""
    return f'#!/bin/sh\nhere=${{0%/*}}\nexec {shlex.quote(python)} -I -S "$here/agent.pyz" "$here" "$@"\n'


def public_key(key: str | Path) -> str:
    """Return the public half of a key: kind and data.

    Raises
    ------
    ConfigError
        If there is none.
    """
    path = Path(key).expanduser()
    beside = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        text = beside.read_text(encoding="utf-8")
    except OSError:
        if not path.is_file():
            raise ConfigError(f"{key}: no such key; make one: ssh-keygen -t ed25519, or give --key") from None
        done = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=False)
        text = done.stdout
    words = text.split()
    if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise ConfigError(f"{key}: has no public key that ssh-keygen knows")
    return f"{words[0]} {words[1]}"


def allowed_signers(keys: Sequence[str | Path]) -> str:
    """Return the text of an ``allowed_signers`` file for these keys."""
    spaces = f"{NAMESPACE},{enrolment.NAMESPACE}"
    return "".join(f'{PRINCIPAL} namespaces="{spaces}" {public_key(key)}\n' for key in keys)


def enrol(
    transport: Transport,
    profile: Profile,
    keys: Sequence[str | Path],
    *,
    old_key: str | Path | None = None,
    root: str = ROOT,
    python: str = "python3",
    service: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Enrol a board, or renew its agent, budget and service; return its status.

    Parameters
    ----------
    keys : sequence of str or Path
        Whose signatures it will take.
    old_key : str or Path, optional
        One of the keys before, when they are to be changed.
    python : str
        The Python there that has edge_runtime.
    service : dict, optional
        ``command`` and ``again_s`` of a systemd service; see `edge_bench.boards.agent.service`.

    Raises
    ------
    BoardError
        If the board lacks what is needed, or was enrolled with other keys and `old_key` is not given.
    """
    signers = allowed_signers(keys)
    if profile.kind != "linux":
        raise BoardError(f"{profile.name} runs no Python: it has a plan, and nothing to flash to")
    _need_runtime(transport, python, say)
    before = _present(transport, root)
    if before and before["signers"] not in ("", hashlib.sha256(signers.encode()).hexdigest()):
        if old_key is None:
            raise BoardError(
                f"{transport.name}: is enrolled with another key; to change it, sign with an old one: --old-key"
            )
        say("the old key signs the new ones")
        change_signers(transport, before, signers, old_key, root=root)
    elif before and old_key is not None:
        say("these keys are the board's already")
    _install(transport, root, python, say)
    config = {
        "schema": enrolment.CONFIG, "board": f"{profile.name}-{secrets.token_hex(4)}", "profile": profile.name,
        "ram": profile.budget.ram, "flash": profile.budget.flash,
    }  # fmt: skip
    request = {"config": config, "allowed_signers": signers, "service": service}
    status = ask(transport, root, ["enrol"], stdin=json.dumps(request).encode())
    say(f"enrolled as {status['board']}")
    return status


def _need_runtime(transport: Transport, python: str, say: Callable[[str], None]) -> None:
    done = transport.run([python, "-c", _PROBE], timeout_s=300)
    try:
        version, runtime = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise BoardError(
            f"{transport.name}: {python} there has no edge_runtime ({lines[-1] if lines else done.code}): pip install "
            "edge-bench there, or name another Python with --python"
        ) from None
    say(f"Python {version[0]}.{version[1]}, edge_runtime {runtime}")


def _present(transport: Transport, root: str) -> dict[str, Any] | None:
    """Return the status of a board that is enrolled, None for a fresh one."""
    if transport.run(["test", "-f", f"{root}/config.json"]).code:
        return None
    return ask(transport, root, ["status"])


def _install(transport: Transport, root: str, python: str, say: Callable[[str], None]) -> None:
    done = transport.run(["mkdir", "-p", root])
    if done.code:
        raise BoardError(f"{transport.name}: {done.stderr.decode(errors='replace').strip()}")
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("agent.pyz", agent_file()), ("agent", launcher(python).encode())):
            file = Path(folder) / name
            file.write_bytes(data)
            transport.put(file, f"{root}/{name}")
    transport.run(["chmod", "755", f"{root}/agent"])
    say("agent installed")


def change_signers(
    transport: Transport, status: dict[str, Any], signers: str, old_key: str | Path, *, root: str = ROOT
) -> dict[str, Any]:
    """Exchange a board's keys; `old_key` is one of the present ones. Return the status."""
    moment = {"board": status["board"], "counter": status["counter"]}
    signed = canonical({"schema": enrolment.SIGNERS, **moment, "allowed_signers": signers})
    request = {"request": signed.decode(), "signature": sign(signed, old_key, enrolment.NAMESPACE)}
    return ask(transport, root, ["signers"], stdin=json.dumps(request).encode())
