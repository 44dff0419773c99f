"""Both corpus layouts and what makes a corpus unusable; silence removal and loudness equalisation."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, COPIES, RATE, noise, speech, table_corpus, tree_corpus, write_table
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_bench.train import corpus
from edge_bench.train.preprocess import equalise_loudness, frame_power, loud, remove_silence
from edge_runtime import CorpusError
from edge_runtime.wav import write_wav


def refused(root: Path, message: str, **options: Any) -> str:
    """Loading fails in one line."""
    with pytest.raises(CorpusError, match=message) as caught:
        corpus.load(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """A table corpus in tmp_path / "c" of very short recordings, to be spoilt."""
    (tmp_path / "c").mkdir()
    return table_corpus(tmp_path / "c", seconds=0.05)


# --- SOURCES.csv ------------------------------------------------------------------------------


def test_table(corpus_root: Path) -> None:
    c = corpus.load(corpus_root)
    assert c.classes == CLASSES and c.root == corpus_root
    for split, count in COPIES.items():
        chosen = c.split(split)
        assert Counter(r.label for r in chosen) == dict.fromkeys(CLASSES, count)
        assert {r.split for r in chosen} == {split}
    first = c.recordings[0]
    assert first.path == corpus_root / "speech/train0.wav" and first.path.is_file()
    assert (first.label, first.split, first.group, first.source) == (
        "speech",
        "train",
        "speech0/train0",
        "stand-in/speech0",
    )
    assert (first.licence, first.seconds) == ("CC0-1.0", 2.5)
    assert corpus.load(str(corpus_root)).recordings == c.recordings


def test_a_table_needs_four_columns_only(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_table(tmp_path / "c", [{k: r[k] for k in ("file", "class", "split", "group")} for r in rows])
    first = corpus.load(tmp_path / "c").recordings[0]
    assert (first.source, first.licence, first.seconds) == ("speech0", "", 0.0), "the group's collection is the source"


def test_classes_keep_the_order_that_is_asked_for(corpus_root: Path) -> None:
    assert corpus.load(corpus_root, classes=["noise", "music", "speech"]).classes == ("noise", "music", "speech")


def test_attribution(corpus_root: Path) -> None:
    table = corpus.attribution(corpus.load(corpus_root).recordings)
    assert sum(n for _, _, n in table) == 15 and {licence for _, licence, _ in table} == {"CC0-1.0"}
    assert [n for _, _, n in table] == sorted((n for _, _, n in table), reverse=True)


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (0, {"file": "speech/none.wav"}, "line 2: speech/none.wav does not exist"),
        (3, {"file": "speech"}, "line 5: speech does not exist"),
        (1, {"file": ""}, "line 3: column 'file' is missing or empty"),
        (1, {"class": ""}, "line 3: column 'class'"),
        (1, {"split": ""}, "line 3: column 'split'"),
        (1, {"group": ""}, "line 3: column 'group'"),
        (2, {"seconds": "long"}, "line 4: seconds is 'long', not a number"),
        (2, {"class": "laughter"}, "train2.wav: class 'laughter' is not one of speech, music, noise"),
        (2, {"split": "dev"}, "train2.wav: split 'dev' is not one of train, validation, test"),
    ],
)
def test_rows_that_make_no_sense(
    tmp_path: Path, rows: list[dict[str, Any]], line: int, changes: dict[str, str], message: str
) -> None:
    rows[line].update(changes)
    write_table(tmp_path / "c", rows)
    assert str(tmp_path / "c") in refused(tmp_path / "c", message)


def test_a_group_in_two_splits(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rows[0]["group"], rows[4]["group"] = "someone", "someone"
    assert {rows[0]["split"], rows[4]["split"]} == {"train", "test"}
    write_table(tmp_path / "c", rows)
    refused(tmp_path / "c", "group 'someone' is in train and in test")
    rows[4]["split"] = "train"
    write_table(tmp_path / "c", rows)
    assert len(corpus.load(tmp_path / "c").recordings) == 15


def test_a_file_in_two_splits(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_table(tmp_path / "c", [*rows, {**rows[0], "split": "test", "group": "another"}])
    refused(tmp_path / "c", "train0.wav")


def test_a_missing_column(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_table(tmp_path / "c", [{k: v for k, v in r.items() if k != "group"} for r in rows])
    refused(tmp_path / "c", "column 'group'")


def test_a_table_saved_by_excel(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    table = tmp_path / "c" / "SOURCES.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(corpus.load(tmp_path / "c").recordings) == len(rows)


@pytest.mark.parametrize(
    "content", [b"", b"file,class,split,group\n", b"\xff\xfe\x00\x01binary", b"\0\0\0\0", b'file,"class\n']
)
def test_a_table_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "SOURCES.csv").write_bytes(content)
    refused(tmp_path, "cannot be read|no recordings|is missing or empty")


def test_a_table_that_cannot_be_read(
    tmp_path: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_allowed(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", not_allowed)
    refused(tmp_path / "c", "SOURCES.csv: cannot be read")


def test_folders_that_are_no_corpus(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none: no such folder")
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file", "file: no such folder")
    refused(tmp_path, "no recordings; expected SOURCES.csv or CLASS/file.wav")


def test_a_missing_split(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_table(tmp_path / "c", [r for r in rows if r["split"] != "validation"])
    c = corpus.load(tmp_path / "c")
    with pytest.raises(CorpusError, match="split 'validation' has no recording of music, noise, speech"):
        c.split("validation")
    with pytest.raises(CorpusError, match="'dev' is unknown, must be one of train, validation, test"):
        c.split("dev")
    write_table(tmp_path / "c", [r for r in rows if (r["split"], r["class"]) != ("test", "noise")])
    with pytest.raises(CorpusError, match="split 'test' has no recording of noise"):
        corpus.load(tmp_path / "c").split("test")
    assert len(corpus.load(tmp_path / "c").split("train")) == 9


# --- CLASS/file -------------------------------------------------------------------------------


def test_tree(tmp_path: Path) -> None:
    tree_corpus(tmp_path, seconds=0.05)
    (tmp_path / "README.md").write_text("no sound")
    (tmp_path / "speech" / "notes.txt").write_text("no sound")
    c = corpus.load(tmp_path)
    assert Counter(r.label for r in c.recordings) == dict.fromkeys(CLASSES, 12)
    by_path = {r.path.relative_to(tmp_path).as_posix(): r for r in c.recordings}
    assert by_path["speech/take0.wav"].group == "speech/take0"
    assert by_path["speech/session1/take1.wav"].group == "speech/session1"
    assert all(r.split == corpus.split_of(r.group) for r in c.recordings)
    assert {r.source for r in c.recordings} == set(CLASSES)


def test_files_of_a_folder_stay_together(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / "music" / f"album{i % 8}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / f"album{i % 8}" / f"{i}.flac").write_bytes(b"x")
    splits: dict[str, set[str]] = {}
    for r in corpus.load(tmp_path, classes=["music"]).recordings:
        splits.setdefault(r.path.parent.name, set()).add(r.split)
    assert len(splits) == 8 and all(len(found) == 1 for found in splits.values())


def test_another_recording_moves_none(tmp_path: Path) -> None:
    tree_corpus(tmp_path, seconds=0.05)
    before = {r.path: r.split for r in corpus.load(tmp_path).recordings}
    write_wav(tmp_path / "speech" / "aaa.wav", noise(0.05), RATE)
    after = {r.path: r.split for r in corpus.load(tmp_path).recordings}
    assert len(after) == len(before) + 1 and before.items() <= after.items()
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "music", moved / "music")
    for r in corpus.load(moved, classes=["music"]).recordings:
        assert before[tmp_path / r.path.relative_to(moved)] == r.split, "the folder's place does not matter"


def test_suffixes_in_capitals_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    for name in ("a.WAV", "b.Flac", "c.ogg", "d.mp3", "e.txt", "f.wav.part", "noext"):
        (tmp_path / "speech" / name).write_bytes(b"x")
    (tmp_path / "speech" / "folder.wav").mkdir()
    found = sorted(r.path.name for r in corpus.load(tmp_path, classes=["speech"]).recordings)
    assert found == ["a.WAV", "b.Flac", "c.ogg", "d.mp3"]


def test_an_unknown_class_in_a_tree(tmp_path: Path) -> None:
    tree_corpus(tmp_path, seconds=0.05)
    write_wav(tmp_path / "speech" / "x.wav", noise(0.05), RATE)
    (tmp_path / "birds").mkdir()
    write_wav(tmp_path / "birds" / "tit.wav", noise(0.05), RATE)
    refused(tmp_path, "tit.wav: class 'birds' is not one of speech, music, noise")
    assert corpus.load(tmp_path, classes=[*CLASSES, "birds"]).classes[-1] == "birds"


def test_split_of_is_stable() -> None:
    """These must never change, or a published test set becomes a training set."""
    known = {
        "speech/take0": "test",
        "speech/session1": "validation",
        "music/album3": "test",
        "noise/rain": "validation",
        "speech/anna": "test",
        "a": "test",
        "é": "train",
    }
    assert {group: corpus.split_of(group) for group in known} == known
    shares = Counter(corpus.split_of(f"class/{i}") for i in range(20000))
    assert shares["train"] / 20000 == pytest.approx(0.65, abs=0.015)
    assert shares["validation"] / 20000 == pytest.approx(0.10, abs=0.01)
    assert shares["test"] / 20000 == pytest.approx(0.25, abs=0.015)


# --- revision ---------------------------------------------------------------------------------


def test_revision_follows_names_labels_splits_and_groups(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    seen = {corpus.load(tmp_path / "c").revision()}
    for change in ({"class": "music"}, {"split": "test"}, {"group": "another"}):
        write_table(tmp_path / "c", [{**rows[0], **change}, *rows[1:]])
        seen.add(corpus.load(tmp_path / "c").revision())
    write_table(tmp_path / "c", rows[1:])
    seen.add(corpus.load(tmp_path / "c").revision())
    assert len(seen) == 5 and all(len(r) == 12 for r in seen)
    write_table(tmp_path / "c", rows)
    assert corpus.load(tmp_path / "c").revision() in seen


def test_revision_follows_the_contents(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    before = corpus.load(tmp_path / "c").revision()
    write_wav(tmp_path / "c" / rows[0]["file"], noise(1.0, 77), RATE)
    assert corpus.load(tmp_path / "c").revision() != before


def test_a_path_outside_the_corpus_has_a_revision(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_wav(tmp_path / "far.wav", noise(0.05), RATE)
    for name in (str(tmp_path / "far.wav"), "../far.wav"):
        write_table(tmp_path / "c", [{**rows[0], "file": name}, *rows[1:]])
        assert len(corpus.load(tmp_path / "c").revision()) == 12


# --- silence ----------------------------------------------------------------------------------


def test_frame_power() -> None:
    x = np.concatenate([np.full(10, 0.5), np.full(10, -1.0), np.full(5, 1.0)]).astype(np.float32)
    np.testing.assert_allclose(frame_power(x, length=10), [0.25, 1.0, 0.5])


def test_long_silence_goes_and_short_pauses_stay() -> None:
    sound = noise(1.0)
    pause, gap = np.zeros(int(0.3 * RATE), np.float32), np.zeros(3 * RATE, np.float32)
    x = np.concatenate([sound, pause, sound, gap, sound])
    y = remove_silence(x)
    # of the long gap half of the longest pause stays on either side, to a window of 20 ms
    assert len(x) - len(y) == pytest.approx(3 * RATE - 0.3 * RATE, abs=2 * 320)
    assert np.array_equal(y[: 2 * RATE + len(pause)], x[: 2 * RATE + len(pause)])
    assert np.array_equal(y[-RATE:], sound)


def test_quiet_is_not_silent() -> None:
    x = np.concatenate([noise(1.0), 0.03 * noise(1.0, 1), noise(1.0, 2)])  # 30 dB down: the end of a word, a far voice
    assert np.array_equal(remove_silence(x), x)
    loud_then_hum = np.concatenate([noise(1.0), 0.001 * noise(2.0, 1)])
    assert len(remove_silence(loud_then_hum)) < 1.5 * RATE, "60 dB down is silence"


def test_a_quiet_recording_is_measured_by_itself() -> None:
    x = 0.05 * np.concatenate([noise(1.0), np.zeros(RATE, np.float32), noise(1.0, 1)])
    y = remove_silence(x)
    assert 2.2 * RATE < len(y) < 2.4 * RATE
    assert len(remove_silence(1e-4 * noise(5.0))) < 0.4 * RATE, "below -65 dBFS everything is silence"


@settings(max_examples=60, deadline=None)
@example([(0.0, 2664), (0.1, 1)])  # a click: its window of 20 ms lies below -65 dBFS, so it is silence, too
@given(st.lists(st.tuples(st.sampled_from([0.0, 1e-5, 0.1]), st.integers(0, 12000)), max_size=6))
def test_only_samples_are_removed(pieces: list[tuple[float, int]]) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([np.zeros(0), *(level * rng.uniform(-1, 1, n) for level, n in pieces)]).astype(np.float32)
    y, kept = remove_silence(x), loud(x)
    assert y.dtype == np.float32 and np.array_equal(y, x[kept])
    power = 10 * np.log10(frame_power(x, length=320) + 1e-12)
    heard = power >= max(np.percentile(power, 95) - 40, -65) if len(x) else power > 0
    assert kept[np.repeat(heard, 320)[: len(x)]].all(), "no window that is heard is lost"
    if all(n == 0 or n >= 40 for level, n in pieces if level == 0.1):  # long enough for a window to be heard
        assert np.array_equal(y[np.abs(y) > 1e-4], x[np.abs(x) > 1e-4]), "nothing loud is lost"


def test_speech_without_its_pauses_is_shorter_in_no_case_longer() -> None:
    x = speech(3.0)
    assert np.array_equal(remove_silence(x), x), "pauses of 0.1 s are part of speech"


def test_a_silent_recording_becomes_empty() -> None:
    assert len(remove_silence(np.zeros(5 * RATE, np.float32))) == 0


# --- loudness ---------------------------------------------------------------------------------


def level(x: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(x.astype(np.float64) ** 2)) + 1e-12))


def test_loudness_is_evened_out() -> None:
    x = np.concatenate([0.05 * noise(2.0), 0.5 * noise(2.0, 1)])
    y = equalise_loudness(x)
    assert y.dtype == np.float32 and len(y) == len(x)
    parts = [level(y[a:b]) for a, b in ((4000, 28000), (36000, 60000))]
    assert level(x[36000:60000]) - level(x[4000:28000]) > 15
    assert abs(parts[0] - parts[1]) < 1


def test_gain_is_limited_and_peaks_stay_below_full_scale() -> None:
    x = np.concatenate([noise(2.0), 1e-4 * noise(2.0, 1)])
    y = equalise_loudness(x)
    assert level(y[40000:60000]) - level(x[40000:60000]) == pytest.approx(20, abs=0.2)
    assert np.abs(y).max() <= 1
    loud = np.concatenate([np.zeros(8000), np.ones(4000)]).astype(np.float32)
    assert np.abs(equalise_loudness(loud)).max() <= 1 and np.isfinite(equalise_loudness(loud)).all()


def test_even_loudness_stays() -> None:
    x = (0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    np.testing.assert_allclose(equalise_loudness(x), x, atol=1e-4)
    assert not equalise_loudness(np.zeros(RATE, np.float32)).any()
    short = noise(0.1)
    assert np.array_equal(equalise_loudness(short), short)


@pytest.mark.parametrize("more", [1, 100, 1000])
def test_even_loudness_stays_to_the_last_sample(more: int) -> None:
    x = (0.1 * np.sin(2 * np.pi * 440 * np.arange(RATE + more) / RATE)).astype(np.float32)
    assert np.abs(equalise_loudness(x)).max() < 0.11
