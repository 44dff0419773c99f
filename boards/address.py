"""Where SSH goes: a host, a port, and what else ssh must be told."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """Where SSH goes.

    Attributes
    ----------
    host : str
        A name or an alias of the user's configuration, with ``user@`` before it if need be.
    port : int, optional
    options : tuple of str
        More ``ssh`` arguments, such as those of an emulated board.
    """

    host: str
    port: int | None = None
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address in ``[user@]host[:port]``.

        Raises
        ------
        ConfigError
            If it is none.
        """
        host, colon, port = text.rpartition(":")
        if not colon or "]" in port or ":" in host.rpartition("]")[0].partition("[")[0]:
            host, port = text, ""
        host = host.replace("[", "").replace("]", "")
        bare = host.rpartition("@")[2]
        # a leading dash would be an option of ssh
        if not bare or host.startswith("-") or bare.startswith("-") or any(c.isspace() for c in host):
            raise ConfigError(f"{text!r} is no host, expected [user@]host[:port]")
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError(f"{text!r}: port {port} must be a number from 1 to 65535")
        return cls(host, int(port) if port else None)

    @property
    def name(self) -> str:
        """The address as the user would write it."""
        return f"{self.host}:{self.port}" if self.port else self.host

    def command(self, program: str = "ssh") -> list[str]:
        """Return ssh with the arguments that make it go here, the host not among them."""
        return [program, *self.options, *(["-p", str(self.port)] if self.port else [])]
