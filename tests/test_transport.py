"""Commands and files on a board: here, and through SSH to a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd

from edge_bench.boards import hosts, many, ssh_errors, targets
from edge_bench.boards.address import Address
from edge_bench.boards.transport import Local, Ssh, Transport
from edge_runtime.errors import BoardError, ConfigError, HostKeyError, UnreachableError

needs_sshd = pytest.mark.skipif(sshd.SSHD is None, reason="sshd is not installed (apt install openssh-server)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    """A server on loopback."""
    running = sshd.Server(tmp_path_factory.mktemp("sshd"))
    yield running
    running.stop()


@pytest.fixture
def address(server: sshd.Server) -> Address:
    """Where it is, its host key known."""
    return Address(f"{server.user}@127.0.0.1", server.port, server.options)


@pytest.fixture
def strange(server: sshd.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    """The same server, with a configuration that has not seen it yet and would accept any host key."""
    config = tmp_path / "config"
    config.write_text(
        f"Host *\n StrictHostKeyChecking no\n UserKnownHostsFile {tmp_path}/theirs\n IdentityFile {server.identity}\n"
        f" IdentitiesOnly yes\nHost nickname\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "ours"))
    return Address("nickname", None, ("-F", str(config), "-o", "GlobalKnownHostsFile=/dev/null"))


@pytest.fixture(params=["local", pytest.param("ssh", marks=needs_sshd)])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    """Each kind of transport."""
    kind: Transport = Local(tmp_path) if request.param == "local" else Ssh(request.getfixturevalue("address"))
    yield kind
    kind.close()


def test_run(transport: Transport) -> None:
    done = transport.run(["sh", "-c", 'cat; echo "$1" >&2; exit 7', "sh", "two  words; $HOME 'é'"], stdin=b"\0\xff" * 9)
    assert (done.code, done.stdout, done.stderr.decode()) == (7, b"\0\xff" * 9, "two  words; $HOME 'é'\n")
    assert transport.run(["/nowhere/program"]).code == 127


def test_lines_come_while_it_runs(transport: Transport) -> None:
    lines: list[str] = []
    # half a megabyte in and out at the same time: neither side may wait for the other
    done = transport.run(
        ["sh", "-c", "echo one >&2; cat; echo two >&2; exit 3"], stdin=b"x" * 500_000, say=lines.append
    )
    assert (done.code, len(done.stdout), lines) == (3, 500_000, ["one", "two"])


def test_too_late(transport: Transport) -> None:
    for say in (None, str):
        begun = time.monotonic()
        with pytest.raises(UnreachableError, match=r"no answer within 0\.3 s"):
            transport.run(["sleep", "60"], timeout_s=0.3, say=say)
        assert time.monotonic() - begun < 30
    assert transport.run(["true"]).code == 0


def test_files(transport: Transport, tmp_path: Path) -> None:
    source, there, back = tmp_path / "a b", tmp_path / "there 'x'", tmp_path / "back"
    source.write_bytes(os.urandom(300_000))
    transport.put(source, str(there))
    transport.get(str(there), back)
    assert back.read_bytes() == there.read_bytes() == source.read_bytes()
    with pytest.raises(ConfigError, match=r"nothing\.bin: cannot be read"):
        transport.put(tmp_path / "nothing.bin", str(there))
    with pytest.raises(BoardError, match="nowhere/x cannot be written"):
        transport.put(source, "/nowhere/x")
    with pytest.raises(BoardError, match="nowhere/x cannot be read"):
        transport.get("/nowhere/x", back)
    assert back.read_bytes() == source.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if "part" in p.name) == []


@needs_sshd
def test_a_lost_connection(address: Address) -> None:
    board = Ssh(address)
    board._master.kill()
    board._master.wait()
    with pytest.raises(UnreachableError, match="connection was lost"):
        board.run(["true"])
    board.close()
    assert not Path(board._folder).exists()


@needs_sshd
def test_exit_255_is_no_lost_connection(address: Address) -> None:
    board = Ssh(address)
    assert board.run(["sh", "-c", "exit 255"]).code == 255
    board.close()


@needs_sshd
def test_an_unknown_host_key_is_refused(server: sshd.Server, strange: Address, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError, match=r"host key is not known here.*edge-bench board pin --host nickname"):
        Ssh(strange)
    with pytest.raises(HostKeyError, match="nothing was pinned"):
        hosts.pin(strange, "SHA256:AAAA")
    with pytest.raises(ConfigError, match="must begin with SHA256"):
        hosts.pin(strange, "aa:bb")
    assert not hosts.pinned_file().exists()
    line = hosts.pin(strange, hosts.fingerprint(server.host_key))
    assert line.split()[1:] == server.host_key.split() and not (tmp_path / "theirs").exists()
    board = Ssh(strange)
    assert board.run(["echo", "here"]).stdout == b"here\n"
    board.close()
    hosts.pin(strange, hosts.fingerprint(server.host_key))
    assert len(hosts.pinned_file().read_text().splitlines()) == 1


@needs_sshd
def test_a_changed_host_key_is_refused(server: sshd.Server, strange: Address, tmp_path: Path) -> None:
    other = sshd.make_key(tmp_path / "other")
    (tmp_path / "theirs").write_text(f"[127.0.0.1]:{server.port} {other}\n")
    with pytest.raises(HostKeyError, match="another one than before"):
        Ssh(strange)
    assert (tmp_path / "theirs").read_text().split()[1:] == other.split()


@needs_sshd
def test_who_is_not_let_in(server: sshd.Server, address: Address, tmp_path: Path) -> None:
    sshd.make_key(tmp_path / "wrong")
    options = tuple(o.replace(str(server.identity), str(tmp_path / "wrong")) for o in address.options)
    with pytest.raises(BoardError, match=r"does not let us in.*ssh-add"):
        Ssh(Address(address.host, address.port, options))


def test_nobody_listens() -> None:
    with pytest.raises(UnreachableError, match="connection was refused"):
        Ssh(Address("127.0.0.1", sshd.free_port()))


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        ("ssh: Could not resolve hostname pi: Name or service not known", UnreachableError, "no machine has this name"),
        ("ssh: connect to host pi port 22: No route to host", UnreachableError, "no route"),
        ("ssh: connect to host pi port 22: Connection timed out", UnreachableError, "no answer"),
        ("kex_exchange_identification: Connection closed by remote host", UnreachableError, "before it stood"),
        ("Unable to negotiate with pi: no matching cipher", UnreachableError, "no matching cipher"),
        ("", UnreachableError, "said nothing"),
    ],
)
def test_causes(said: str, kind: type[BoardError], text: str) -> None:
    error = ssh_errors.explain("pi", said)
    assert type(error) is kind and str(error).startswith("pi: ") and text in str(error)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("pi", "pi", None), ("me@pi:22022", "me@pi", 22022), ("[::1]:5", "::1", 5), ("me@[fe80::1]", "me@fe80::1", None)],
)
def test_addresses(text: str, host: str, port: int | None) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "me@-x", "pi:0", "pi:99999", "pi:ssh", "a b"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(text)


@needs_sshd
def test_an_emulated_board(server: sshd.Server, tmp_path: Path) -> None:
    board = {"host": "127.0.0.1", "port": server.port, "user": server.user, "identity": str(server.identity)}
    (tmp_path / "board.json").write_text(json.dumps({**board, "host_key": server.host_key}))
    transport = targets.emulated(tmp_path).connect()
    assert transport.run(["echo", "there"]).stdout == b"there\n"
    transport.close()
    (tmp_path / "key.pub").write_text(sshd.make_key(tmp_path / "other"))
    (tmp_path / "board.json").write_text(json.dumps({**board, "host_key": "key.pub"}))
    with pytest.raises(HostKeyError):
        targets.emulated(tmp_path).connect()
    (tmp_path / "board.json").write_text("{}")
    with pytest.raises(ConfigError, match="edge-bench emulate pi4"):
        targets.emulated(tmp_path)


def test_many_boards(tmp_path: Path) -> None:
    boards = [targets.host(f"127.0.0.1:{sshd.free_port()}")]
    for name in "abc":
        (tmp_path / name).mkdir()
        boards += targets.targets((), (), str(tmp_path / name))
    lines: list[str] = []

    def work(transport: Transport, report: object) -> str:
        if transport.run(["pwd"]).stdout.strip().endswith(b"b"):
            raise BoardError("b: is broken")
        return transport.run(["pwd"]).stdout.decode().strip()

    found = many.on_each(boards, work, lines.append)
    assert [o.value and Path(o.value).name for o in found] == [None, "a", None, "c"]
    assert isinstance(found[0].error, UnreachableError) and "is broken" in str(found[2].error)
    assert sum("connecting" in line for line in lines) == 4 and sum("FAILED" in line for line in lines) == 2


def test_targets_are_named_once() -> None:
    with pytest.raises(ConfigError, match="no board is named"):
        targets.targets(())
    with pytest.raises(ConfigError, match="pi is given twice"):
        targets.targets(("pi", "pi"))


def test_no_process_is_left(tmp_path: Path) -> None:
    Local(tmp_path).run(["true"])
    out = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False)
    assert "ControlMaster=yes" not in out.stdout
