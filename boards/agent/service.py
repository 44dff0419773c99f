"""The systemd service that listens (or segments) with whatever bundle is active."""

from __future__ import annotations

import os
import shlex
import subprocess
import time

from .errors import Refused

COMMANDS = ("listen", "segment", "classify", "run")  # those that take --model


def unit_text(root: str, command: list[str], *, again_s: int, user: str | None) -> str:
    """Return the text of a unit file.

    Parameters
    ----------
    command : list of str
        What follows ``edge-bench``, such as ``listen --lines``; the model is added.
    again_s : int
        Seconds until it is started again after it ended: a service that segments a folder comes back to it.
    user : str, optional
        Who runs it; None in a user's own unit.
    """
    line = " ".join(_quoted(word) for word in [os.path.join(root, "agent"), "exec", *command])
    lines = [
        "[Unit]",
        f"Description=edge-bench {command[0]} with the bundle in the active slot of {root}",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={line}",
        f"Restart={'always' if again_s else 'on-failure'}",
        f"RestartSec={again_s or 5}",
        *([f"User={user}"] if user else []),
        "NoNewPrivileges=yes",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if user else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    """Quote a word as systemd reads it."""
    if any(c in word for c in "\n\0"):
        raise Refused(f"the service's command has a line break: {word!r}")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped and not any(c in escaped for c in " \t'\"\\;") else f'"{escaped}"'


def systemctl(config: dict[str, object], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl for the system or the user, as the service was installed."""
    command = ["systemctl", *(["--user"] if config.get("user_unit") else []), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"{shlex.join(command)}: {error}")


def restart(config: dict[str, object], *, settle_s: float = 2.0) -> None:
    """Restart the service, if one was installed, and see that it stays up.

    Raises
    ------
    Refused
        If it does not.
    """
    unit = str(config.get("unit") or "")
    if not unit:
        return
    done = systemctl(config, "restart", unit)
    if done.returncode:
        raise Refused(f"{unit} does not start: {done.stderr.strip() or done.stdout.strip()}")
    time.sleep(settle_s)
    shown = systemctl(config, "show", "-p", "ActiveState", "-p", "Result", unit).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    # one that segments a folder may have ended well already, or wait for its next turn
    if found.get("ActiveState") not in ("active", "activating", "inactive") or found.get("Result") != "success":
        raise Refused(f"{unit} does not stay up ({' '.join(found.values()) or 'no state'}): journalctl -u {unit}")
