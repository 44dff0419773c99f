"""Check processes that are imported already: ``python board_check_server.py SOCKET``, until standard input ends.

Every connection gets a process of its own, forked from this one, that runs `edge_runtime.board_check` as the agent's
own child would. Only the time to import it is saved.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from edge_runtime import board_check
from edge_runtime.interpreter import first_backend


def _end_with_input() -> None:
    # not sys.stdin: a fork while this waits would inherit its lock
    while os.read(0, 1):
        pass
    os._exit(0)


def main() -> None:
    first_backend()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen(64)
    print("ready", flush=True)
    threading.Thread(target=_end_with_input, daemon=True).start()
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            os.dup2(connection.fileno(), 0)
            os.dup2(connection.fileno(), 1)
            connection.close()
            server.close()
            board_check.serve()
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    main()
