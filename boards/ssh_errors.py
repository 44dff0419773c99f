"""What ssh says when it cannot connect, as one line with a remedy."""

from __future__ import annotations

from edge_runtime.errors import BoardError, HostKeyError, UnreachableError

# (what ssh says, error, what we say); the first that fits
_CAUSES: tuple[tuple[tuple[str, ...], type[BoardError], str], ...] = (
    (
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", "REVOKED HOST KEY", "host key has changed"),
        HostKeyError,
        "its host key is another one than before: another machine answers, or it was installed anew. Compare the "
        "fingerprint on the board itself (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: edge-bench board "
        "pin --host {host} --fingerprint SHA256:...",
    ),
    (
        ("host key is known for", "Host key verification failed"),
        HostKeyError,
        "its host key is not known here. Read the fingerprint on the board itself (ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub), then: edge-bench board pin --host {host} --fingerprint SHA256:...",
    ),
    (
        ("Could not resolve hostname",),
        UnreachableError,
        "no machine has this name; check the spelling, try its IP address, or see `ssh -G {host}`",
    ),
    (
        ("Connection refused",),
        UnreachableError,
        "the connection was refused: the machine is there, an SSH server is not; start sshd there, or give its "
        "port as {host}:PORT",
    ),
    (
        ("timed out", "Timeout"),
        UnreachableError,
        "no answer: is it on, on this network, and not behind a firewall?",
    ),
    (("No route to host", "unreachable"), UnreachableError, "no route to it: is this machine on the board's network?"),
    (
        ("Permission denied", "Too many authentication failures", "no identities", "No supported authentication"),
        BoardError,
        "it does not let us in: load the key (ssh-add), or copy it there once (ssh-copy-id {host}); "
        "passwords are not asked for",
    ),
    (
        ("Connection closed", "Connection reset", "closed by remote host", "kex_exchange_identification"),
        UnreachableError,
        "the connection was closed before it stood; see its log (journalctl -u ssh)",
    ),
)


def explain(host: str, said: str) -> BoardError:
    """Return the error for what ssh wrote on standard error while it tried to connect to `host`."""
    for marks, kind, text in _CAUSES:
        if any(mark in said for mark in marks):
            return kind(f"{host}: {text.format(host=host)}")
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return UnreachableError(f"{host}: ssh failed: {lines[-1] if lines else 'it said nothing'}; try `ssh {host} true`")
