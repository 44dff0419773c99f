"""The report without a browser: what it says, that it loads nothing, that nothing out of a file gets into its HTML."""

from __future__ import annotations

import copy
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_results import made_result, write_result
from PIL import Image

from edge_bench.benchmarks import cli
from edge_bench.benchmarks.compare import compare
from edge_bench.benchmarks.report.draw import DARK, LIGHT, Scale, log_scale, nice
from edge_bench.benchmarks.report.gather import gather
from edge_bench.benchmarks.report.page import page, pictures
from edge_bench.benchmarks.report.words import summary
from edge_runtime import ConfigError

RESULTS = Path(__file__).parent.parent / "results"
HOSTILE = "<img src=x onerror=alert(1)>\"'&</script>"


class Reader(HTMLParser):
    """Collects tags with their attributes, checks that what opens is closed, and the text."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def history_of(folder: Path, count: int = 24, name: str = "made-int8") -> list[Path]:
    """Results of `count` days; the model gets 20 % slower half way."""
    base = made_result(clips=(2.0,))
    files = []
    for i in range(count):
        value = copy.deepcopy(base)
        value["model"].update(name=name, sha256=f"{i:064x}")
        value["context"]["time"] = f"2026-03-{i + 1:02d}T08:00:00+00:00"
        value["clips"][0]["stages"]["model"]["p50"] = (48.0 if i >= count // 2 else 40.0) + 0.1 * (i % 4)
        files.append(write_result(folder / f"{name}-{i}.json", value))
    return files


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of every kind that a report takes; names in them are hostile."""
    folder = tmp_path_factory.mktemp("results")
    files = history_of(folder, name=f"a {HOSTILE}"[:24].replace("/", "-"))
    hostile = made_result(1.3, seed=1)
    hostile["model"]["name"] = HOSTILE
    hostile["context"]["machine"]["cpu"] = HOSTILE
    hostile["context"]["remarks"] = [HOSTILE]
    hostile["instructions"] = {"frontend_hop": 9, "frontend": 99, "model": 999, "source": HOSTILE, "context": {}}
    files.append(write_result(folder / "hostile.json", hostile))
    evaluation = json.loads((RESULTS / "swishnet-slim-int8-test.json").read_text())
    files.append(write_result(folder / "evaluation.json", {**evaluation, "model": HOSTILE}))
    a, b = made_result(seed=3), made_result(1.1, seed=4)
    b["model"]["name"] = HOSTILE
    files.append(write_result(folder / "compare.json", compare(a, b)))
    old, new = write_result(folder / "old.json", a), write_result(folder / "new.json", b)
    gate = folder / "gate.json"
    CliRunner().invoke(cli.group, ["gate", str(new), "--baseline", str(old), "--json", str(gate)])
    bench = {
        "machine_info": {}, "datetime": "2026-01-01T00:00:00",
        "benchmarks": [{"name": HOSTILE, "fullname": HOSTILE, "stats": dict.fromkeys(
            ("median", "q1", "q3", "min", "max"), 1e-5) | {"rounds": 5}}],
    }  # fmt: skip
    return [*files, gate, write_result(folder / "bench.json", bench)]


def test_a_page_of_everything_is_safe_and_loads_nothing(everything: list[Path]) -> None:
    text = page(gather(everything), title=HOSTILE)
    assert HOSTILE not in text and "<img" not in text
    reader = read(text)
    assert reader.text.count(HOSTILE) > 10, "it is shown as it is written"
    for tag, attributes in reader.tags:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", text)
    (policy,) = [a["content"] for t, a in reader.tags if t == "meta" and a.get("http-equiv")]
    assert policy and policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy


def test_every_part_is_there_with_names_and_tables(everything: list[Path]) -> None:
    reader = read(page(gather(everything)))
    anchors = {a["id"] for t, a in reader.tags if t == "h2"}
    wanted = "summary verdicts latency stages memory accuracy history environments results suites"
    assert anchors == set(wanted.split())
    assert {a["href"] for t, a in reader.tags if t == "a"} == {f"#{name}" for name in anchors}
    svgs = [a for t, a in reader.tags if t == "svg"]
    figures = [a for t, a in reader.tags if t == "figure"]
    assert len(svgs) == 2 * len(figures) and all(a["role"] == "img" and a["aria-label"] for a in svgs)
    ids = [a["id"] for _, a in reader.tags if a.get("id")]
    assert len(set(ids)) == len(ids)
    tables = [t for t, _ in reader.tags].count("table")
    assert tables == [t for t, _ in reader.tags].count("caption") >= len(figures) + 2


def test_the_summary_says_what_the_figures_say(tmp_path: Path) -> None:
    slim, wide = made_result(clips=(2.0,)), made_result(1.5, seed=1, clips=(2.0,))
    slim["model"].update(name="slim", bytes=1000)
    wide["model"].update(name="wide", bytes=2000)
    wide["context"]["remarks"] = ["load was 9"]
    scores = json.loads((RESULTS / "swishnet-slim-int8-test.json").read_text())
    better = copy.deepcopy(scores)
    better["clips_by_length"]["2"]["macro_f1"] = 0.99
    values = {"a": slim, "b": wide, "c": {**scores, "model": "slim"}, "d": {**better, "model": "wide"}}
    texts = summary(gather(write_result(tmp_path / f"{name}.json", value) for name, value in values.items()))
    times = {stage: f"{t['p50']:.3g} us" for stage, t in slim["clips"][0]["stages"].items()}
    f1, (low, high) = scores["macro_f1"], scores["intervals"]["macro_f1"]
    assert texts[0].startswith(f"slim takes {times['total']} for 2 s of sound, ")
    assert f"{times['frontend']} in the front end, {times['model']} in the model" in texts[0]
    assert f"F1 on the test split: {100 * f1:.1f} % ({100 * low:.0f} to {100 * high:.0f})." in texts[0]
    assert texts[2:] == [
        "Of these, slim is the fastest and the smallest; wide is the most accurate, at 2 s.",
        "Doubtful: wide: load was 9.",
    ]


def test_a_change_of_level_is_told_and_in_the_table(tmp_path: Path) -> None:
    found = gather(history_of(tmp_path))
    (change,) = [t for t in summary(found) if t.startswith("Level changed")]
    assert "made-int8 2s/model: 40.2 us -> 48.2 us (+19.9 %) from 2026-03-13 08:00" in change
    charts = {c.title: c for _, _, kept in pictures(found) for c in kept}
    (line,) = [row for row in charts["made-int8: 2s/model"].rows if row[2]]
    assert line[0] == "2026-03-13 08:00" and line[2] == "40.2 us to 48.2 us"
    assert "+19.9 %" in charts["made-int8: 2s/model"].draw(760)


def test_environments_are_told_apart(tmp_path: Path) -> None:
    other = made_result(seed=1)
    other["context"]["machine"]["cores"] = 4
    files = [write_result(tmp_path / f"{i}.json", r) for i, r in enumerate((made_result(), other))]
    found = gather([*files, files[0]])
    assert len(found.groups) == 2 and all("made-int8 (" in g.label for g in found.groups)
    assert [len(g.runs) for g in found.groups] == [1, 1], "the same file twice is one result"
    text = page(found)
    assert "2 environments, which differ in: machine&#x27;s cores." in text and "<tr class=differs>" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [("table", "schema is 'edge-bench/table/1'"), ("none", "cannot be read"), ("doctor", "needed is")],
)
def test_what_it_does_not_take(tmp_path: Path, kind: str, words: str) -> None:
    file = RESULTS / "distillation.json" if kind == "table" else tmp_path / "x.json"
    if kind == "doctor":
        file.write_text(json.dumps({"schema": "edge-bench/doctor/1"}))
    out = tmp_path / "report.html"
    done = CliRunner().invoke(cli.group, ["report", str(file), "-o", str(out)])
    assert isinstance(done.exception, ConfigError) and words in str(done.exception) and not out.exists()


def test_figures_as_files(tmp_path: Path) -> None:
    out, folder = tmp_path / "r.html", tmp_path / "figures"
    files = [str(RESULTS / n) for n in ("run.json", "swishnet-slim-int8-test.json")]
    done = CliRunner().invoke(cli.group, ["report", *files, "-o", str(out), "--figures", str(folder)])
    assert done.exit_code == 0 and "6 SVG and PNG" in done.output, done.output
    names = {p.stem for p in folder.iterdir()}
    assert names == {"latency-2s", "latency-1s", "latency-0.5s", "stages", "memory", "accuracy"}
    for name in names:
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        assert root.get("role") == "img" and "var(" not in (folder / f"{name}.svg").read_text()
        picture = Image.open(io.BytesIO((folder / f"{name}.png").read_bytes())).convert("L")
        assert picture.width == 2 * float(root.get("width", 0))
        assert picture.getpixel((1, 1)) == 255 and picture.getextrema()[0] < 60, "dark words on white"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_told_from_the_paper(palette: dict[str, str]) -> None:
    """WCAG 2.2: 4.5 for words, 3 for pictures; the links have the first series' colour."""
    paper = luminance(palette["paper"])
    for name, colour in palette.items():
        pair = sorted((luminance(colour), paper))
        contrast = (pair[1] + 0.05) / (pair[0] + 0.05)
        if name in ("ink", "soft", "s0"):
            assert contrast >= 4.5, name
        elif name not in ("paper", "grid"):
            assert contrast >= 3, name


positive = st.floats(1e-3, 1e9)


@given(positive, positive, st.integers(2, 12), st.booleans())
def test_ticks_lie_within_and_are_not_too_many(a: float, b: float, most: int, log: bool) -> None:
    low, high = sorted((a, b))
    if high / low < 1.01:
        high = low * 1.01
    scale = log_scale([low, high], 0, 100) if log else Scale(low, high, 0, 100)
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 3 and ticks == sorted(set(ticks))
    assert all(-0.2 <= scale(t) <= 100.2 for t in ticks)
    assert 0 <= scale(low) <= scale(high) <= 100.0001


@given(positive)
def test_nice_steps(step: float) -> None:
    found: Any = nice(step)
    assert step * 0.999 <= found <= step * 2.6
