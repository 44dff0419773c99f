"""A download that goes on where it stopped, as a downloader for pooch.

pooch begins anew after every interruption. This one keeps ``NAME.part`` and asks for the rest of it (HTTP Range, RFC
9110 section 14), with If-Range so that a file that changed at the server is taken from its beginning. A connection that
breaks is taken up again as long as each try brings something.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from edge_runtime import EdgeBenchError

Progress = Callable[[str, int, int], None]
TIMEOUT_S = 30.0


class DownloadError(EdgeBenchError):
    """A file that could not be fetched from one place; another may have it."""


@dataclass(frozen=True)
class Resuming:
    """Downloader: call it with (url, output file, pooch), as pooch does.

    Attributes
    ----------
    part : Path
        Where the unfinished file is kept between runs.
    progress : callable or None
        Called with (file name, bytes done, bytes in all).
    retries : int
        Tries in a row that may bring nothing.
    wait_s : float
        Before the first retry; doubled each time.
    block : int
        Bytes read at a time; what came of an unfinished block is lost when the connection breaks.
    """

    part: Path
    progress: Progress | None = None
    retries: int = 3
    wait_s: float = 1.0
    block: int = 2**14
    headers: dict[str, str] = field(default_factory=lambda: {"User-Agent": "edge-bench", "Accept-Encoding": "identity"})

    def __call__(self, url: str, output_file: str | os.PathLike[str], pooch: Any, check_only: bool = False) -> None:
        """Fetch `url`; the whole file appears as `output_file`.

        Raises
        ------
        DownloadError
            If the server refuses, or the connection breaks again and again.
        EdgeBenchError
            If the disk is full, or another run downloads the same file.
        """
        try:
            with self.part.open("ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise EdgeBenchError(f"{self.part}: another run is downloading it; wait for that one") from None
                self._fetch(url, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.part, output_file)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "free some space and run it again: it goes on from there" if full else "check the folder"
            raise EdgeBenchError(f"{self.part}: cannot be written: {error.strerror or error}; {hint}") from None
        self._tag.unlink(missing_ok=True)

    @property
    def _tag(self) -> Path:
        return self.part.with_name(self.part.name + ".etag")

    def _fetch(self, url: str, file: BinaryIO) -> None:
        import requests

        failures = 0
        while True:
            before = file.seek(0, os.SEEK_END)
            reason = "the connection broke"
            try:
                if self._once(url, file):
                    return
            except (requests.RequestException, ConnectionError) as error:
                reason = _reason(error)
            got = file.seek(0, os.SEEK_END)
            failures = 0 if got > before else failures + 1
            if failures > self.retries:
                kept = f"; {got:,} bytes are kept, run it again to go on" if got else ""
                raise DownloadError(f"{url}: {reason}{kept}")
            time.sleep(self.wait_s * 2 ** max(0, failures - 1))

    def _once(self, url: str, file: BinaryIO) -> bool:
        """Ask for what is missing and say whether the file is whole."""
        import requests

        have = file.seek(0, os.SEEK_END)
        headers = dict(self.headers)
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._tag.is_file():
                headers["If-Range"] = self._tag.read_text()
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == 416:  # what we have reaches the end, or lies beyond it
                total = response.headers.get("Content-Range", "").rpartition("/")[2]
                if total == str(have):
                    return True
                file.truncate(0)
                return False
            if response.status_code >= 500 or response.status_code == 429:
                raise requests.HTTPError(f"the server answers {response.status_code} {response.reason}")
            if response.status_code not in (200, 206):
                raise DownloadError(f"{url}: the server answers {response.status_code} {response.reason}")
            if response.status_code == 200 and have:  # it changed, or the server knows no ranges
                file.truncate(0)
                have = 0
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or "W/"
            if not tag.startswith("W/"):  # a weak tag may not be used with If-Range
                self._tag.write_text(tag)
            length = response.headers.get("Content-Length")
            total_bytes = have + int(length) if length else 0
            told = 0.0
            for block in response.iter_content(self.block):
                file.write(block)
                have += len(block)
                if self.progress and (time.monotonic() > told + 0.1 or have == total_bytes):
                    told = time.monotonic()
                    self.progress(url.rpartition("/")[2], have, max(total_bytes, have))
            return have >= total_bytes


def _reason(error: Exception) -> str:
    """Return a short cause of a failed request."""
    text = str(error)
    if "resolve" in text or "NameResolution" in text:
        return "the server's name is not known (no network, or the server is gone)"
    if "refused" in text:
        return "the server refuses connections"
    if "timed out" in text.lower():
        return f"no answer within {TIMEOUT_S:g} s"
    if "IncompleteRead" in text or "broken" in text.lower() or "aborted" in text.lower() or "reset" in text.lower():
        return "the connection broke"
    return text[:120]
