"""What can go wrong with a flash, as groups of cases for a `board_bench.Bench`; each returns how many it judged.

`representative` is a dozen of them that an emulated board can afford.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import helpers
from board_bench import Bench, Case

from edge_runtime.bundle import Bundle, parse

FLASH, ROLLBACK = ["flash"], ["rollback"]


def operations(bench: Bench, template: str = "flashed", command: list[str] = FLASH) -> list[str]:
    """Return the operations of an agent to whom nothing happens."""
    case = {"id": "count", "command": command, "template": template, "wants": "fine"}
    return list(bench.judge([case])[0]["fault"]["kinds"])


def killed(bench: Bench, template: str, command: list[str] = FLASH) -> int:
    """Kill the agent before every operation, within every write, and after the last operation."""
    kinds = operations(bench, template, command)
    common = {"command": command, "template": template, "wants": "killed"}
    cases = [{**common, "id": f"before {i} {k}", "plan": {"at": i, "do": "kill-before"}} for i, k in enumerate(kinds)]
    cases += [
        {**common, "id": f"within {i}", "plan": {"at": i, "do": "torn"}} for i, k in enumerate(kinds) if k == "write"
    ]
    cases.append({**common, "id": "after", "plan": {"at": len(kinds) - 1, "do": "kill-after"}})
    bench.judge(cases)
    return len(cases)


def failing_disk(bench: Bench, template: str, command: list[str] = FLASH) -> int:
    """Every change on disk fails once, and the disk is full from every one on that needs room."""
    kinds = operations(bench, template, command)
    common = {"command": command, "template": template}
    cases = []
    for i, kind in enumerate(kinds):
        if kind in ("verify", "receive", "ask"):
            continue
        cases.append({**common, "id": f"error {i} {kind}", "plan": {"at": i, "do": "error"}})
        if kind in ("write", "link"):
            cases.append({**common, "id": f"full {i} {kind}", "plan": {"at": i, "do": "full"}})
    for case, seen in zip(cases, bench.judge(cases), strict=True):
        assert seen["fault"]["code"] in (0, 1, 2), (case, seen)
        if seen["fault"]["code"]:
            assert "disk" in seen["fault"]["answer"]["error"], (case, seen)
    return len(cases)


def failing_checks(bench: Bench) -> int:
    """The check process dies, or a bit of what is written flips on its way to the disk."""
    kinds = operations(bench)
    cases: list[Case] = [
        {"id": f"check dies {i}", "plan": {"at": i, "do": "crash-check"}, "wants": "rolled-back"}
        for i, kind in enumerate(kinds) if kind == "ask"
    ]  # fmt: skip
    # the fourth write is the first of state.json that says ``trial``: what the slot holds was written by then
    writes = [i for i, kind in enumerate(kinds) if kind == "write"][1:4]
    cases += [{"id": f"flip {i}", "plan": {"at": i, "do": "flip"}, "wants": "rolled-back"} for i in writes]
    bench.judge(cases)
    return len(cases)


def cut_transfers(bench: Bench) -> int:
    """The transfer ends early: at every boundary of the header, and at every 4 KB of the bundle and a byte around."""
    name = bench.parcel("new")
    lengths = bench.sizes[name]
    line = len(str(len(bench.manifest().encode()))) + 5
    whole = lengths + bench.new.size
    places = {0, 1, line - 1, line, line + 1, line + 100, lengths - 200, lengths - 1, lengths, lengths + 1, whole - 1}
    for page in range(4096, bench.new.size, 4096):
        places |= {lengths + page - 1, lengths + page, lengths + page + 1} if page % 16384 == 0 else {lengths + page}
    cases = [{"id": f"cut {n}", "cut": n, "wants": "refused", "said": "cut"} for n in sorted(places)]
    for case in cases:  # within the line of lengths or the manifest other words say so, too
        if case["cut"] < lengths:
            case["said"] = ""
    cases.append({"id": "more", "more": "x", "wants": "refused", "said": "not the one that was signed"})
    bench.judge(cases)
    return len(cases)


def flipped_bits(bench: Bench) -> int:
    """A bit flips on the way: in the lengths, all over manifest and signature, all over the bundle."""
    header, total = bench.sizes[bench.parcel("new")], bench.sizes["new"] + bench.new.size
    places = [0, 1, 2, 4, *range(9, header, 31), *range(header, total, 6007), total - 1]
    cases = [{"id": f"flip {n}", "flip": n, "wants": "refused", "said": ""} for n in places]
    bench.judge(cases)
    return len(cases)


def wrong_manifests(bench: Bench) -> int:
    """Altered, by a stranger, for another board or purpose, not canonical, too old, replayed, too large."""
    good = bench.manifest()
    cases: list[Case] = []

    def add(name: str, said: str, *, template: str = "flashed", **options: Any) -> None:
        parcel = bench.parcel(name, **options)
        cases.append({"id": name, "parcel": parcel, "wants": "refused", "said": said, "template": template})

    signer = "not by a key that this board was enrolled with"
    for field, value in json.loads(good.encode()).items():
        if isinstance(value, bool):
            other: Any = not value
        else:
            other = value + 1 if isinstance(value, int) else value[:-1] + ("0" if value[-1] != "0" else "1")
        altered = json.dumps({**json.loads(good.encode()), field: other}, sort_keys=True, separators=(",", ":"))
        add(f"altered {field}", signer, altered=altered.encode())
    add("stranger", signer, key=bench.stranger)
    add("other namespace", signer, namespace="file")
    add("not canonical", "canonical", signed=json.dumps(json.loads(good.encode())).encode())
    add("no manifest", "damaged", signed=b"[1, 2]")
    add("no schema", "another schema", signed=good.encode().replace(b"manifest/1", b"manifest/2"))
    add("negative", "size makes no sense", signed=good.encode().replace(b'"size":', b'"size":-'))
    add("other board", "is for board", manifest=bench.manifest(board="pi4-00000000"))
    add("too large", "", manifest=bench.manifest(size=bench.profile.budget.flash // 2 + 1), payload=b"x")
    add("too much memory", "of RAM, the budget", manifest=bench.manifest(ram=1 << 40))
    add("other front end", "front end is not the one", manifest=bench.manifest(front_end="0" * 64))
    add("newer runtime", "update it there", manifest=bench.manifest(runtime="99.0"))
    add("other content", "confirmed with another content", manifest=bench.manifest(version=1))
    old = bench.manifest(bench.old)
    payload = Path(bench.old.path).read_bytes()
    # on a board that runs version 2: version 1 again, and downgrades that were signed for another moment
    add("replayed", "below the floor", template="two", payload=payload, manifest=_versioned(old, 1))
    add("downgrade replayed", "replayed manifest", template="two", payload=payload,
        manifest=_versioned(old, 1, allow_downgrade=True, counter=1))  # fmt: skip
    bench.judge(cases)
    meant = _versioned(old, 1, allow_downgrade=True, counter=2)
    fine = {"id": "downgrade", "parcel": bench.parcel("downgrade", meant, payload=payload), "template": "two",
            "wants": "fine"}  # fmt: skip
    seen = bench.judge([fine])[0]
    answer = seen["fault"]["answer"]
    assert (answer["version"], answer["sha256"], answer["floor"]["version"]) == (1, bench.old.sha256, 2), answer
    return len(cases) + 1


def _versioned(manifest: Any, version: int, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(manifest, version=version, **changes)


def reseal(bundle: Bundle, flatbuffer: bytes, changes: dict[str, bytes]) -> bytes:
    """Return a bundle of another flatbuffer or other parts whose checksums are right."""
    _, parts = helpers.parts_of(Path(bundle.path).read_bytes())
    parts |= changes
    info = json.loads(parts.pop("bundle.json"))
    info["parts"] = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    info["parts"]["model.tflite"] = hashlib.sha256(flatbuffer).hexdigest()
    return helpers.assemble(flatbuffer, {"bundle.json": json.dumps(info).encode(), **parts})


def missing_operator(bundle: Bundle) -> bytes:
    """Return a bundle whose convolutions are of a version that no interpreter has."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = bytearray(bundle.flatbuffer)
    table = schema.Model.GetRootAs(buffer, 0).OperatorCodes(0)._tab
    struct.pack_into("<i", buffer, table.Pos + table.Offset(8), 99)
    return reseal(bundle, bytes(buffer), {})


def other_golden(bundle: Bundle) -> bytes:
    """Return a bundle whose golden output is not what the network gives."""
    _, parts = helpers.parts_of(Path(bundle.path).read_bytes())
    name = next(name for name in parts if "output" in name)
    return reseal(bundle, bundle.flatbuffer, {name: parts[name][:-3] + bytes(b ^ 0x7F for b in parts[name][-3:])})


def unfit_bundles(bench: Bench) -> int:
    """Signed by the right key, and still refused: an operator that is missing, other golden vectors, no bundle."""
    cases: list[Case] = []
    for name, payload, said in (
        ("missing operator", missing_operator(bench.new), "refuses the model"),
        ("other golden", other_golden(bench.new), "golden vectors differ"),
        ("no bundle", b"hello" * 100, "is not a .tflite model"),
        ("half a bundle", Path(bench.new.path).read_bytes()[:40000], "without a readable bundle part"),
    ):
        sha256 = parse(payload).sha256 if said[:2] in ("re", "go") else hashlib.sha256(payload).hexdigest()
        manifest = bench.manifest(sha256=sha256, size=len(payload))
        parcel = bench.parcel(name, manifest, payload=payload)
        cases.append({"id": name, "parcel": parcel, "wants": "refused", "said": said})
    bench.judge(cases)
    return len(cases)


def tampered_storage(bench: Bench) -> int:
    """Files on the board change while nobody looks: the active slot, the other one, the state, the floor, the link."""
    new, old = bench.new.sha256, bench.old.sha256
    cases: list[Case] = []

    def add(name: str, *edits: Case, after: str) -> None:
        """`after`: what `recover` must find; before that, the agent's exec would refuse what is damaged."""
        common = {"template": "two", "command": ["recover"], "wants": "fine"}
        cases.append({"id": name, "edit": list(edits), "after": after, **common})

    for share in (0.0, 0.3, 0.6, 0.999):
        add(f"active bundle {share}", {"file": "slots/b/bundle.tflite", "flip": share}, after=old)
        add(f"other bundle {share}", {"file": "slots/a/bundle.tflite", "flip": share}, after=new)
    for share in (0.0, 0.5, 0.9):
        add(f"active manifest {share}", {"file": "slots/b/manifest.json", "flip": share}, after=old)
        add(f"active signature {share}", {"file": "slots/b/manifest.sig", "flip": share}, after=old)
        add(f"state {share}", {"file": "state.json", "flip": share}, after=new)
        add(f"state cut {share}", {"file": "state.json", "cut": share}, after=new)
        add(f"active bundle cut {share}", {"file": "slots/b/bundle.tflite", "cut": share}, after=old)
    for name in ("bundle.tflite", "manifest.json", "manifest.sig"):
        add(f"no {name}", {"file": f"slots/b/{name}", "remove": True}, after=old)
    add("no state", {"file": "state.json", "remove": True}, after=new)
    add("no floor", {"file": "floor", "remove": True}, after=new)
    add("floor", {"file": "floor", "write": "zero\n"}, after=new)
    add("no link", {"file": "active", "remove": True}, after=new)
    add("link to nowhere", {"file": "active", "link": "slots/c"}, after=new)
    add("leftovers", {"file": "state.json.part", "write": "x"}, {"file": "slots/a/bundle.tflite.part", "write": "x"},
        {"file": "active.part", "link": "slots/a"}, after=new)  # fmt: skip
    add("state and active bundle", {"file": "state.json", "flip": 0.5}, {"file": "slots/b/bundle.tflite", "flip": 0.5},
        after=old)  # fmt: skip
    add("state and floor", {"file": "state.json", "flip": 0.5}, {"file": "floor", "remove": True}, after=new)
    for case, seen in zip(cases, bench.judge(cases), strict=True):
        assert seen["recovered"] == case["after"], (case, seen)
        assert seen["recover"]["answer"]["floor"]["version"] == 2, (case, seen)
    return len(cases)


def without_tools(bench: Bench) -> int:
    """ssh-keygen is gone, or says no to everything: nobody can tell, so nothing is changed."""
    bad = f"{bench.there}/bad"
    script = 'mkdir -p "$1" && printf "#!/bin/sh\\nexit 255\\n" > "$1/ssh-keygen" && chmod 755 "$1/ssh-keygen"'
    bench.do(["sh", "-c", script, "sh", bad])
    cases: list[Case] = [
        {"id": f"{command} {path}", "template": template, "command": [command], "plan": {"path": path},
         "wants": "refused", "said": "ssh-keygen", "edit": edits}
        for command in ("recover", "flash", "rollback") for path in ("/nowhere", bad)
        for template, edits in (("two", []), ("two", [{"file": "state.json", "flip": 0.5}]))
    ]  # fmt: skip
    bench.judge(cases)
    return len(cases)


def both_slots_damaged(bench: Bench) -> int:
    """Nothing intact is left: nothing is active, and a flash brings the board back."""
    edits = [{"file": f"slots/{slot}/bundle.tflite", "flip": 0.5} for slot in "ab"]
    case = {"id": "both", "template": "two", "command": ["recover"], "edit": edits, "next": "next"}
    seen = bench.run([case])[0]
    assert seen["recovered"] is None and seen["recover"]["answer"]["slot"] is None, seen
    assert (seen["flash"]["code"], seen["flashed"]) == (0, bench.new.sha256), seen
    return 1


GROUPS: dict[str, Any] = {
    "killed while flashing": lambda b: killed(b, "flashed"),
    "killed while flashing over a confirmed slot": lambda b: killed(b, "two", FLASH),
    "killed at the first flash": lambda b: killed(b, "empty"),
    "killed while rolling back": lambda b: killed(b, "two", ROLLBACK),
    "disk fails while flashing": lambda b: failing_disk(b, "flashed"),
    "disk fails at the first flash": lambda b: failing_disk(b, "empty"),
    "disk fails while rolling back": lambda b: failing_disk(b, "two", ROLLBACK),
    "checks fail": failing_checks,
    "transfer cut": cut_transfers,
    "bit flipped on the way": flipped_bits,
    "wrong manifest": wrong_manifests,
    "unfit bundle": unfit_bundles,
    "tampered storage": tampered_storage,
    "tools missing": without_tools,
    "both slots damaged": both_slots_damaged,
}


def representative(bench: Bench) -> int:
    """Twelve cases, one of each kind, for a slow board."""
    kinds = operations(bench)
    first = {kind: kinds.index(kind) for kind in set(kinds)}
    header = bench.sizes["new"]
    manifest = bench.manifest()
    altered = manifest.encode().replace(b'"version":2', b'"version":3')
    broken = missing_operator(bench.new)
    missing = bench.manifest(sha256=parse(broken).sha256, size=len(broken))
    link = first["link"]
    cases: list[Case] = [
        {"id": "cut", "cut": header + 8192, "wants": "refused", "said": "cut"},
        {"id": "bit", "flip": header + 5000, "wants": "refused", "said": "altered on its way"},
        {"id": "altered", "parcel": bench.parcel("r altered", altered=altered), "wants": "refused", "said": "by a key"},
        {"id": "stranger", "parcel": bench.parcel("r stranger", key=bench.stranger), "wants": "refused", "said": "key"},
        {"id": "other board", "parcel": bench.parcel("r board", bench.manifest(board="pi4-0")), "wants": "refused",
         "said": "is for board"},
        {"id": "replayed", "template": "two", "wants": "refused", "said": "below the floor", "parcel": bench.parcel(
            "r old", _versioned(bench.manifest(bench.old), 1), payload=Path(bench.old.path).read_bytes())},
        {"id": "missing operator", "wants": "refused", "said": "refuses the model",
         "parcel": bench.parcel("r missing", missing, payload=broken)},
        {"id": "killed writing", "plan": {"at": first["write"] + 4, "do": "torn"}, "wants": "killed"},
        {"id": "killed at the switch", "plan": {"at": link + 1, "do": "kill-after"}, "wants": "killed"},
        {"id": "killed on trial", "plan": {"at": link + 3, "do": "kill-after"}, "wants": "killed"},
        {"id": "disk full", "plan": {"at": first["write"] + 4, "do": "full"}, "wants": "rolled-back"},
        {"id": "storage", "template": "two", "command": ["recover"], "wants": "fine",
         "edit": [{"file": "slots/b/bundle.tflite", "flip": 0.5}]},
    ]  # fmt: skip
    assert bench.judge(cases)[-1]["recovered"] == bench.old.sha256
    return len(cases)
