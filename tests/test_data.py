"""Known collections as corpora: layouts, groups and splits, classes, attribution, and what is wrong with a tree."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import data_trees
import pytest
from click.testing import CliRunner
from helpers import CLASSES, tree_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train import corpus
from edge_bench.train.data import annotated, esc50, gtzan, layouts, musan
from edge_runtime import CorpusError


def refused(root: Path, message: str, classes: tuple[str, ...] = CLASSES) -> None:
    with pytest.raises(CorpusError, match=message):
        corpus.load(root, classes=classes)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tree of each layout, to be read only."""
    root = tmp_path_factory.mktemp("trees")
    data_trees.musan(root / "musan")
    data_trees.music_speech(root / "gtzan-music-speech")
    data_trees.genres(root / "gtzan-genres")
    data_trees.esc50(root / "esc-50")
    data_trees.mirex(root / "mirex")
    return root


@pytest.mark.parametrize("name", ["musan", "gtzan-music-speech", "gtzan-genres", "esc-50"])
def test_layouts_are_recognised_also_one_folder_up(trees: Path, tmp_path: Path, name: str) -> None:
    found = layouts.recognise(trees / name)
    assert found is not None and (found[0].name, found[1]) == (name, trees / name)
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "inner").symlink_to(trees / name)
    (tmp_path / "outer" / "__MACOSX").mkdir()
    found = layouts.recognise(tmp_path / "outer")
    assert found is not None and (found[0].name, found[1]) == (name, tmp_path / "outer" / "inner")


def test_other_folders_are_no_known_collection(trees: Path, tmp_path: Path) -> None:
    tree_corpus(tmp_path, seconds=0.05)
    assert layouts.recognise(tmp_path) is None and layouts.recognise(trees / "mirex") is None
    (tmp_path / "empty").mkdir()
    assert layouts.recognise(tmp_path / "empty") is None


# --- MUSAN ------------------------------------------------------------------------------------


def test_musan(trees: Path) -> None:
    c = corpus.load(trees / "musan")
    assert Counter(r.label for r in c.recordings) == {"music": 16, "speech": 12, "noise": 12}
    assert {r.source for r in c.recordings} == {f"MUSAN {s}" for s in ("fma", "jamendo", "librivox", "free-sound")}
    music = [r for r in c.recordings if r.label == "music"]
    by_artist = Counter(r.group for r in music)
    assert by_artist["musan/music/artist-0"] == 4, "an artist is one group, whatever the source"
    assert by_artist["musan/music/music-fma-0015"] == 1, "without annotation a file is its own group"
    assert all(r.split == corpus.split_of(r.group) for r in c.recordings)
    assert {r.credit for r in music} == {"", *(f"Artist {i}" for i in range(4))}


def test_musan_licences(trees: Path) -> None:
    by_name = {r.path.stem: r.licence for r in corpus.load(trees / "musan").recordings}
    assert by_name["music-fma-0001"] == "CC BY 3.0" and by_name["music-fma-0015"] == "CC BY-NC-SA 4.0"
    assert by_name["speech-librivox-0003"] == "Public domain"
    assert by_name["noise-free-sound-0000"] == "see LICENSE"


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("http://creativecommons.org/licenses/by-nc-nd/3.0/us/", "CC BY-NC-ND 3.0"),
        ("CC BY 4.0", "CC BY 4.0"),
        ("Licensed under CC0 1.0", "CC0"),
        ("Creative Commons Attribution-NoDerivatives 4.0", "CC BY-ND 4.0"),
        ("Public Domain Mark 1.0", "Public domain"),
        ("License: ask the author", "License: ask the author"),
        ("no word of it", ""),
    ],
)
def test_licence_names(text: str, licence: str) -> None:
    assert musan.licence_in(f"Some Title\n{text}\n") == licence


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_licence_file(text: str) -> None:
    assert len(musan.licence_in(text)) <= 60


def test_musan_without_noise(trees: Path) -> None:
    c = corpus.load(trees / "musan", classes=["speech", "music"])
    assert {r.label for r in c.recordings} == {"speech", "music"} and c.classes == ("speech", "music")


def test_musan_without_annotations(trees: Path, tmp_path: Path) -> None:
    shutil.copytree(trees / "musan", tmp_path / "musan")
    (tmp_path / "musan/music/fma/ANNOTATIONS").unlink()
    assert len(corpus.load(tmp_path / "musan").recordings) == 40, "some sources of the real corpus have none"
    (tmp_path / "musan/music/jamendo/ANNOTATIONS").unlink()
    refused(tmp_path / "musan", "no SOURCE/ANNOTATIONS, so an artist could be in two splits")


# --- GTZAN ------------------------------------------------------------------------------------


def test_music_speech(trees: Path) -> None:
    c = corpus.load(trees / "gtzan-music-speech", classes=["speech", "music"])
    assert Counter(r.label for r in c.recordings) == {"music": 12, "speech": 14}
    assert len({r.group for r in c.recordings}) == 25, "dialogue1 and dialogue2 stay together"
    assert {r.licence for r in c.recordings} == {gtzan.LICENCE}


def test_music_speech_for_three_classes_says_what_to_do(trees: Path) -> None:
    c = corpus.load(trees / "gtzan-music-speech")
    with pytest.raises(CorpusError, match=r'holds speech, music only: put classes = \["speech", "music"\]'):
        c.split("train")
    assert corpus.load(trees / "gtzan-music-speech", complete=False).split("train")


@pytest.mark.parametrize("suffix", [".wav", ".au"])
def test_genres(tmp_path: Path, suffix: str) -> None:
    root = data_trees.genres(tmp_path / "genres", suffix)
    c = corpus.load(root, classes=["jazz", "rock"])
    assert Counter(r.label for r in c.recordings) == {"jazz": 3, "rock": 3}, "neither jazz.00054 nor ._rock.00000"
    assert {r.label for r in corpus.load(root).recordings} == {"music"}
    shutil.copy(root / f"jazz/jazz.00000{suffix}", root / f"jazz/jazz.00054{suffix}")
    assert len(corpus.load(root).recordings) == 7, "an undamaged jazz.00054 is as good as any"


def test_classes_that_a_collection_does_not_have(trees: Path) -> None:
    refused(trees / "gtzan-genres", "has no recording of polka; it offers music or blues, classical", ("polka",))
    c = corpus.load(trees / "gtzan-genres", classes=["jazz", "rock", "polka"])
    with pytest.raises(CorpusError, match="no recording of polka; the corpus holds jazz, rock only"):
        c.split("train")


# --- ESC-50 -----------------------------------------------------------------------------------


def test_esc50_as_noise(trees: Path) -> None:
    c = corpus.load(trees / "esc-50")
    assert {r.label for r in c.recordings} == {"noise"} and len(c.recordings) == 20
    assert Counter(r.split for r in c.recordings) == {"train": 12, "validation": 4, "test": 4}
    assert len({r.group for r in c.recordings}) == 15, "clips of one Freesound recording are one group"


@pytest.mark.parametrize("classes", [("dog", "rain", "clapping"), ("animals", "nature", "human")])
def test_esc50_categories_and_groups(trees: Path, classes: tuple[str, ...]) -> None:
    c = corpus.load(trees / "esc-50", classes=classes)
    assert Counter(r.label for r in c.recordings) == dict(zip(classes, (10, 5, 5), strict=True))


def test_esc50_attribution(trees: Path) -> None:
    recordings = corpus.load(trees / "esc-50").recordings
    assert corpus.attribution(recordings) == [
        ("ESC-50", "CC BY 3.0 (clip CC-BY)", 10), ("ESC-50", "CC BY-NC 3.0 (clip CC-BY)", 10),
    ]  # fmt: skip
    assert corpus.credits(recordings) == {"ESC-50": ["person 0", "person 10", "person 22"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("1-1000-A-0.wav,1", "1-1000-A-0.wav,7"), "line 2: fold '7' is not one of 1, 2, 3, 4, 5"),
        (lambda t: t.replace("1-1000-A-0.wav", "gone.wav"), "line 2: audio/gone.wav does not exist"),
        (lambda t: t.replace(",0,dog", ",61,dog"), "line 2: target '61' is not a number from 0 to 49"),
        (lambda t: t.replace("src_file", "origin"), "line 2: column 'src_file' is missing"),
        (lambda t: t.replace("dog,True,5000", "dog,True,1000"), "group 'esc-50/1000' is in train and in test"),
        (lambda t: data_trees.ESC_HEADER, "has no recording of"),
    ],
)
def test_esc50_rows_that_make_no_sense(trees: Path, tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    shutil.copytree(trees / "esc-50", tmp_path / "esc")
    table = tmp_path / "esc/meta/esc50.csv"
    table.write_text(change(table.read_text()))
    refused(tmp_path / "esc", message)


def test_credits_of_a_real_line(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_bytes(
        b"- [1-110389-A.ogg]: clip derived from dog by night.wav (http://x/) by sound (2) [CC-BY]\n\xff\xfe\n"
    )
    assert esc50.read_credits(tmp_path / "LICENSE") == {"1-110389-A": ("sound (2)", "CC-BY")}


# --- annotated recordings ---------------------------------------------------------------------


def test_annotated(trees: Path) -> None:
    found = annotated.load(trees / "mirex", licence="mine")
    assert [r.name for r in found] == [f"radio{i}.wav" for i in range(7)]
    assert found[0].intervals == ((0.5, 2.0, "music"),), "the corrected annotation wins"
    assert all(r.intervals == ((0.0, 1.25, "speech"), (0.75, 1.75, "music")) for r in found[1:])
    assert (found[0].source, found[0].licence) == ("mirex", "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,q\n", "line 1: label 'q' is not one of m, music"),
        ("# by me\n\n0\t1\n", "line 3: 2 fields, expected onset, duration, label"),
        ("0,long,m\n", "'long' are not two numbers"),
        ("0,0,m\n", "duration 0; expected"),
        ("-1,2,m\n", "onset -1"),
        ("nan,2,m\n", "onset nan"),
    ],
)
def test_annotations_that_make_no_sense(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        annotated.read_intervals(tmp_path / "a.csv")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(1e-3, 1e4), st.sampled_from("ms")), max_size=8),
    st.sampled_from(["\t", ",", " ", ", ", "  "]),
)
def test_intervals_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, str]], mark: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "interval.txt"
    path.write_text("".join(f"{a!r}{mark}{b!r}{mark}{c}\r\n" for a, b, c in rows))
    assert annotated.read_intervals(path) == tuple(sorted((a, a + b, annotated.LABELS[c]) for a, b, c in rows))


def test_a_recording_without_annotation(trees: Path, tmp_path: Path) -> None:
    shutil.copytree(trees / "mirex", tmp_path / "m")
    (tmp_path / "m/radio3.csv").unlink()
    with pytest.raises(CorpusError, match=r"radio3.wav: has no annotation; expected radio3.csv"):
        annotated.load(tmp_path / "m")
    with pytest.raises(CorpusError, match="no audio with annotations"):
        annotated.load(trees / "esc-50" / "meta")
    with pytest.raises(CorpusError, match="no such folder"):
        annotated.load(trees / "none")


def test_training_on_annotated_recordings_is_refused(trees: Path) -> None:
    refused(trees / "mirex", "long recordings with annotated segments")


# --- as corpora -------------------------------------------------------------------------------


def test_collections_add_up(trees: Path) -> None:
    c = corpus.load(trees / "gtzan-music-speech", extra=[trees / "esc-50"])
    assert set(c.classes) == {r.label for r in c.split("train")}
    assert len(c.revision()) == 12


def test_a_corrupt_recording_is_named(trees: Path, tmp_path: Path, cache: Path) -> None:
    from edge_bench.train import features

    shutil.copytree(trees / "gtzan-music-speech", tmp_path / "g")
    c = corpus.load(tmp_path / "g", classes=["speech", "music"])
    victim = c.split("validation")[0].path
    victim.write_bytes(b"RIFF\0\0")
    with pytest.raises(CorpusError, match=re.escape(str(victim))):
        features.waveforms(c, "validation", cache=cache)


def test_an_empty_class(trees: Path, tmp_path: Path) -> None:
    shutil.copytree(trees / "musan", tmp_path / "musan")
    for path in (tmp_path / "musan/speech").rglob("*.wav"):
        path.unlink()
    with pytest.raises(CorpusError, match="split 'train' has no recording of speech; the corpus holds music, noise"):
        corpus.load(tmp_path / "musan").split("train")


def run(*arguments: str) -> str:
    """Run edge-bench and return what it printed."""
    from edge_bench.benchmarks.cli import group

    done = CliRunner().invoke(group, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_two_classes_are_trained_and_evaluated(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("tensorflow")
    root = data_trees.music_speech(tmp_path / "gtzan", seconds=2.1)
    (tmp_path / "two.toml").write_text(
        'model = "swishnet-slim"\nclasses = ["speech", "music"]\ncopies = 1\nvalidation_copies = 1\n'
        "calibration_clips = 8\n[fit]\nepochs = 1\nsteps = 2\nbatch = 8\n"
    )
    out = tmp_path / "run"
    run("train", str(tmp_path / "two.toml"), "--corpus", str(root), "--out", str(out))
    written = json.loads((out / "experiment.json").read_text())["corpus"]["attribution"]
    assert written == [["GTZAN music/speech", gtzan.LICENCE, 26]]
    run("evaluate", str(out), "--corpus", str(root), "--clips", "1", "--json", str(tmp_path / "two.json"))
    two = json.loads((tmp_path / "two.json").read_text())
    assert two["classes"] == ["speech", "music"] and two["absent"] == [] and len(two["confusion"]) == 2


def test_three_classes_are_evaluated_on_a_corpus_of_two(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("tensorflow")
    root = data_trees.music_speech(tmp_path / "gtzan", seconds=0.8)
    text = run(
        "evaluate", "swishnet-slim-int8", "--corpus", str(root), "--clips", "0.5", "--json", str(tmp_path / "3.json")
    )
    three = json.loads((tmp_path / "3.json").read_text())
    assert three["absent"] == ["noise"] and "holds no noise: F1 is over the other classes" in text
    rows = three["confusion"]
    f1 = [2 * rows[i][i] / max(1, sum(rows[i]) + sum(r[i] for r in rows)) for i in (0, 1)]
    assert three["macro_f1"] == pytest.approx(sum(f1) / 2)


def test_a_model_card_credits_authors(trees: Path, bundles: dict[str, Path]) -> None:
    from edge_bench.train.card import write_card
    from edge_runtime.bundle import read

    bundle = read(bundles["int8"])
    experiment = {"teachers": [], "augmentation": {"level_dbfs": [-35, -5]}, "copies": 1}
    bundle.info["training"] = {
        "experiment": experiment, "fit": {"epochs": 1, "steps": 1, "seed": 0, "masking": {"level_db": 6}}, "keras": "3",
        "corpus": "x",
    }  # fmt: skip
    scores = {
        "clips": 1, "overall": 1.0, "speech_nonspeech": 1.0, "macro_f1": 1.0, "intervals": {"macro_f1": [1, 1]},
        "recall": dict.fromkeys(CLASSES, 1.0), "confusion": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    }  # fmt: skip
    evaluation = {"classes": CLASSES, "model": "m", "split": "test", "clips_by_length": {"2": scores}}
    card = write_card([bundle], corpus.load(trees / "musan", extra=[trees / "esc-50"]), [evaluation])
    assert "| MUSAN fma | CC BY 3.0 |" in card and "| ESC-50 | CC BY-NC 3.0 (clip CC-BY) |" in card
    assert "Authors, ESC-50: person 0, person 10, person 22." in card and "Authors, MUSAN fma: Artist" in card
