"""Music against noise at several signal-to-noise ratios, by single windows (Park & Lee 2015, seed 001, figure 2).

Clean: windows of music against windows of noise. At a ratio: windows of music with noise in it against windows of the
same noise alone, so that a network that hears only the noise gets 0.5. It is not trained on mixtures. *Ours*: the
ratios, which the text does not print; each piece of music meets four pieces of noise, drawn by seed, repeated where
they are shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError

from . import corpus
from .augment import rms
from .features import Pool, waveforms
from .systems import System

Float32 = NDArray[np.float32]

RATIOS = (20.0, 10.0, 0.0, -10.0, -20.0)
NOISES = 4  # that each piece of music meets


def mix(music: Float32, noise: Float32, ratio: float) -> Float32:
    """Return music with as long a noise in it, `ratio` dB weaker than it, at the music's level."""
    both = music + noise * np.float32(rms(music) / max(rms(noise), 1e-9) * 10 ** (-ratio / 20))
    return (both * np.float32(rms(music) / max(rms(both), 1e-9))).astype(np.float32)


def curves(
    system: System,
    corpus_root: Path,
    split: str,
    *,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Return ``edge-bench/music-snr/1``: area under the curve and the curve itself, clean and at each ratio.

    Raises
    ------
    CorpusError
        If the split has no music or no noise.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    data = corpus.load(corpus_root, classes=system.classes, leave_out=system.leave_out)
    waves = waveforms(data, split, cache=cache, progress=progress)
    music, noise = _of(waves, "music"), _of(waves, "noise")
    rng = np.random.default_rng(seed)
    pairs = [(x, np.resize(noise[int(i)], len(x))) for x in music for i in rng.integers(len(noise), size=NOISES)]
    rows, column = system.inputs.open(), list(system.classes).index("music")
    alone = np.concatenate([system.predict(rows(x))[:, column] for _, x in pairs])
    results = []
    for done, ratio in enumerate((None, *ratios), start=1):
        mixed = (x if ratio is None else mix(x, other, ratio) for x, other in pairs)
        positive = np.concatenate([system.predict(rows(x))[:, column] for x in mixed])
        truth = np.repeat([1, 0], [len(positive), len(alone)])
        scores = np.concatenate([positive, alone])
        false, true, _ = roc_curve(truth, scores)
        keep = np.unique(np.linspace(0, len(false) - 1, 200).astype(int))
        results.append(
            {"snr_db": ratio, "auc": float(roc_auc_score(truth, scores)), "windows": len(scores),
             "false_positive": false[keep].round(4).tolist(), "true_positive": true[keep].round(4).tolist()}
        )  # fmt: skip
        if progress:
            progress("ratios", done, len(ratios) + 1)
    return {
        "schema": "edge-bench/music-snr/1", "model": system.name, "split": split, "corpus": data.revision(),
        "window_s": system.inputs.window_s, "results": results,
    }  # fmt: skip


def _of(waves: Pool, label: str) -> list[Float32]:
    found = [
        waves.piece(i).astype(np.float32) / np.float32(32768)
        for i in range(len(waves.starts))
        if waves.recordings[int(waves.recording[i])].label == label and waves.lengths[i]
    ]
    if not found:
        raise CorpusError(f"the split has no {label}: its windows cannot be told from others")
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the curves (seed 001, figure 2) as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    for r in result["results"]:
        name = "clean" if r["snr_db"] is None else f"{r['snr_db']:+g} dB"
        axis.plot(r["false_positive"], r["true_positive"], label=f"{name}: AUC {r['auc']:.3f}")
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.5)
    axis.set(xlabel="noise taken for music", ylabel="music found", title=f"single windows, {result['split']}")
    axis.legend(title="music to noise", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
