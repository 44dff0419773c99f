"""What an agent answers when it does not do what it was told."""

from __future__ import annotations


class Refused(Exception):
    """The board is as it was; the text says why, where and what to do."""

    kind = "refused"


class CannotTell(Refused):
    """What is needed to check a bundle does not work here now: no verdict on the bundle, and no reason to drop it."""


class RolledBack(Refused):
    """The new bundle did not pass its checks; the board runs what it ran before."""

    kind = "rolled-back"
