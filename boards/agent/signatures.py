"""Signatures made with SSH keys (``ssh-keygen -Y``), checked with the system's OpenSSH."""

from __future__ import annotations

import os
import subprocess
import tempfile

from .errors import CannotTell, Refused

PRINCIPAL = "edge-bench"
OLD = "signatures need OpenSSH 8.1 or later on the board: apt install openssh-client, or a newer system"


def check_program() -> None:
    """Raise `CannotTell` where ``ssh-keygen`` cannot check signatures."""
    said = _ssh_keygen(["-Y", "verify"], b"")[1]
    # 8.1 and later miss the namespace; older ones do not know -Y
    if "namespace" not in said:
        why = "knows no -Y verify" if "option" in said else f"does not work ({_first(said)})"
        raise CannotTell(f"ssh-keygen here {why}; {OLD}")


def verify(signers: str, namespace: str, data: bytes, signature: str) -> None:
    """Check that one of the `signers` signed `data` for `namespace`.

    Raises
    ------
    Refused
        If not.
    CannotTell
        If ``ssh-keygen`` does not work here.
    """
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        name = os.path.join(folder, "sig")
        with open(name, "w", encoding="ascii", errors="replace") as file:
            file.write(signature)
        arguments = ["-Y", "verify", "-f", signers, "-I", PRINCIPAL, "-n", namespace, "-s", name]
        code, said = _ssh_keygen(arguments, data)
    if code == 0:
        return
    if code < 0:
        raise CannotTell(f"ssh-keygen was ended by signal {-code}")
    check_program()  # a program that does not work says no to everything
    raise Refused(f"the signature is not by a key that this board was enrolled with ({_first(said)})")


def _first(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[0] if lines else "it says nothing"


def _ssh_keygen(arguments: list[str], data: bytes) -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments], input=data, capture_output=True, timeout=120, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise CannotTell(f"ssh-keygen is missing here; {OLD}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotTell(f"ssh-keygen could not be run: {error}") from None
    return done.returncode, (done.stderr + done.stdout).decode(errors="replace")
