"""How a network stands noise: recordings of a split mixed with noise recordings of the same split, at falling SNR.

The protocol is that of Park & Lee 2015 (seed 001): clips of music under noise against clips of noise alone, at several
signal-to-noise ratios, judged by the area under the ROC curve. *Ours*: the same for speech; the ratios; the score,
``p / (p + p_noise)``, which a network of three classes gives for a question of two; and

* a recording meets the same piece of the same noise at every ratio, drawn by its name and the seed;
* the ratio is that of the two recordings' mean power, silence removed; the mixture has the recording's own level;
* noise recordings stay as they are, so noise recall is one figure for the whole sweep.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEnd, FrontEndConfig, metrics
from edge_runtime.probability import auc, bootstrap_auc

from . import corpus, features
from .clips import ClipSet, evaluation_clips
from .evaluate import open_model
from .features import Pool

Float32 = NDArray[np.float32]
NOISE = "noise"
MIXING = 1  # raise when `mix` changes, so that old caches are not read


def check_ratios(snr_db: Sequence[float]) -> tuple[float, ...]:
    """Return the ratios, each once, from the highest down.

    Raises
    ------
    ConfigError
        If there is none, or one that is no number from -60 to 100 dB.
    """
    if not snr_db or not all(-60 <= s <= 100 for s in snr_db):
        raise ConfigError(f"SNR: {', '.join(map(str, snr_db)) or 'nothing'} given, expected numbers from -60 to 100 dB")
    return tuple(sorted({float(s) for s in snr_db}, reverse=True))


def mix(x: Float32, noise: Float32, snr_db: float, rng: np.random.Generator) -> Float32:
    """Return a recording under noise, at the recording's own level.

    Parameters
    ----------
    x, noise : np.ndarray, float32, shape (n,) and (m,)
        The noise begins at a random place and is repeated to length.
    snr_db : float
        Ratio of the mean powers.
    """
    background = np.resize(np.roll(noise, -int(rng.integers(len(noise)))), len(x)).astype(np.float64)
    power, other = np.mean(x.astype(np.float64) ** 2), np.mean(background**2)
    if not power or not other:
        return x
    mixture = x + background * np.sqrt(power / other * 10 ** (-snr_db / 10))
    return (mixture * np.sqrt(power / np.mean(mixture**2))).astype(np.float32)


def noisy_features(
    data: corpus.Corpus,
    split: str,
    config: FrontEndConfig,
    snr_db: float,
    *,
    seed: int = 0,
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Pool:
    """Return features, without normalisation, of every recording but the noises, mixed with noise of the same split.

    Raises
    ------
    CorpusError
        If the split has no noise to mix with.
    """
    waves = features.waveforms(data, split, cache=cache, progress=progress)
    noises = features.noises_of(waves)
    if noises is None:
        raise ConfigError(f"{data.root}: split {split!r} has no noise recording above 0.1 s to mix with")
    plain = config.normalised((), ())
    chosen = [i for i in range(len(waves.starts)) if waves.recordings[int(waves.recording[i])].label != NOISE]

    def pieces() -> Iterator[tuple[int, int, Float32]]:
        front_end = FrontEnd(plain)
        for done, i in enumerate(chosen, 1):
            number = int(waves.recording[i])
            rng = np.random.default_rng([seed, zlib.crc32(waves.recordings[number].name.encode())])
            noise = noises.piece(int(rng.integers(len(noises.starts)))).astype(np.float32) / np.float32(32768)
            x = waves.piece(i).astype(np.float32) / np.float32(32768)
            if progress:
                progress(f"{split} at {snr_db:g} dB", done, len(chosen))
            yield number, 0, front_end(mix(x, noise, snr_db, rng))

    parts = {
        "corpus": data.revision(), "split": split, "front_end": plain.key(), "snr_db": snr_db, "seed": seed,
        "mixing": MIXING,
    }  # fmt: skip
    return features.stored("noisy", parts, waves.recordings, pieces, "<f4", plain.features, cache=cache)


def sweep(
    path: str,
    corpus_root: Path,
    split: str,
    snr_db: Sequence[float],
    *,
    clip_s: Sequence[float] = (2.0,),
    seed: int = 0,
    backend: str = "auto",
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Return for each clip length a row for clean recordings (``snr_db`` None) and one for each ratio.

    A row has ``snr_db, clips, overall, macro_f1, recall, precision, confusion``, ``auc`` of each class against noise,
    and ``intervals`` of ``macro_f1`` and ``auc``.

    Raises
    ------
    ConfigError
        If a ratio makes no sense, or the model does not know noise and something else.
    """
    ratios = check_ratios(snr_db)
    config, classes, name, predict = open_model(path, backend)
    if NOISE not in classes or len(classes) < 2:
        raise ConfigError(f"{name} knows {', '.join(classes)}: an SNR sweep needs the class {NOISE} and another")
    data = corpus.load(corpus_root, classes=classes, complete=False)
    common: dict[str, Any] = {"cache": cache, "progress": progress}
    clean = features.features(data, split, config.normalised((), ()), **common)
    noisy = [noisy_features(data, split, config, s, seed=seed, **common) for s in ratios]
    if len(clean.recordings) and not any(r.label != NOISE for r in clean.recordings):
        raise ConfigError(f"{data.root}: split {split!r} has nothing but noise: there is nothing to mix with it")
    is_noise = np.array([clean.recordings[int(i)].label == NOISE for i in clean.recording])
    result: dict[str, list[dict[str, Any]]] = {}
    for seconds in clip_s:
        alone = evaluation_clips(clean.where(is_noise), config, classes, seconds)
        answer = predict(alone.x)
        rows = []
        for ratio, pool in zip((None, *ratios), (clean.where(~is_noise), *noisy), strict=True):
            clips = evaluation_clips(pool, config, classes, seconds)
            both = _joined(clips, alone)
            rows.append({"snr_db": ratio, **_row(both, np.concatenate([predict(clips.x), answer]), classes)})
        result[f"{seconds:g}"] = rows
    return result


def _joined(a: ClipSet, b: ClipSet) -> ClipSet:
    """Return the clips of both; features are not needed any more."""
    return ClipSet(
        a.x[:0], *(np.concatenate([getattr(a, k), getattr(b, k)]) for k in ("labels", "groups", "recording"))
    )


def _row(clips: ClipSet, probabilities: Float32, classes: Sequence[str]) -> dict[str, Any]:
    predicted = probabilities.argmax(axis=1)
    found = metrics.evaluate(clips.labels, predicted, classes).to_dict()
    drawn = metrics.bootstrap_confusions(clips.labels, predicted, clips.groups, len(classes))
    occurs = np.bincount(clips.labels, minlength=len(classes)) > 0
    areas, intervals = {}, {}
    against = probabilities[:, classes.index(NOISE)]
    for i, name in enumerate(classes):
        if name == NOISE or not occurs[i]:
            continue
        two = (clips.labels == i) | (clips.labels == classes.index(NOISE))
        p, q = probabilities[two, i].astype(np.float64), against[two].astype(np.float64)
        score = np.divide(p, p + q, out=np.full(len(p), 0.5), where=p + q > 0)  # int8 may say 0 to both
        positive = clips.labels[two] == i
        areas[name] = auc(positive, score)
        draws = metrics.draw_groups(positive.astype(np.int64), clips.groups[two], 2)
        intervals[name] = metrics.interval(bootstrap_auc(positive, score, draws))
    return {
        **{key: found[key] for key in ("clips", "overall", "macro_f1", "recall", "precision", "confusion")},
        "auc": areas,
        "intervals": {"macro_f1": metrics.interval(metrics.f1_scores(drawn)[:, occurs].mean(axis=1)), "auc": intervals},
    }
