"""The model card of a bundle: what it is, what it was trained on and by whose leave, how good it is, where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_runtime.bundle import Bundle

from .corpus import Corpus, attribution, credits
from .evaluate import markdown_table


def _confusions(evaluation: dict[str, Any]) -> list[str]:
    """Return the most frequent confusion at each clip length, in words."""
    found = []
    names = evaluation["classes"]
    for key, result in evaluation["clips_by_length"].items():
        shares = {
            (a, b): result["confusion"][i][j] / max(1, sum(result["confusion"][i]))
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if i != j
        }
        (true, taken), share = max(shares.items(), key=lambda item: item[1])
        found.append(f"At {key} s, {100 * share:.1f} % of {true} clips are taken for {taken}: its commonest mistake.")
    return found


def write_card(bundles: Sequence[Bundle], corpus: Corpus, evaluations: Sequence[dict[str, Any]]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    bundles : sequence of Bundle
        The same network in several precisions.
    corpus : Corpus
        With everything that it was trained on.
    evaluations : sequence of dict
        ``edge-bench/evaluate/1`` of these bundles.
    """
    first = bundles[0]
    experiment, fit = first.info["training"]["experiment"], first.info["training"]["fit"]
    config = first.front_end
    teachers = " and ".join(experiment["teachers"])
    recipe = first.info["family"] + ("-distilled" if teachers else "")
    command = "distill" if teachers else "train"
    taught = f", distilled from {teachers}" if teachers else ""
    used = [r for r in corpus.recordings if r.split in ("train", "validation")]
    folders = {"midi": "MIDI", "debian": "DEBIAN"}  # of edge-bench render-midi and data gather, by their sources' names
    extra = "".join(f" --extra {v}" for k, v in folders.items() if any(r.source.startswith(f"{k}:") for r in used))
    lines = [
        f"# {first.info['family']}",
        "",
        f"Says of half a second to two seconds of sound whether it is {', '.join(first.classes[:-1])} or "
        f"{first.classes[-1]}. {first.info['parameters']:,} parameters; source: Hussain & Haque, \"SwishNet\", "
        "arXiv 1812.00149.",
        "",
        "| bundle | bytes | without golden vectors and metadata | sha256 |",
        "|---|---|---|---|",
        *(f"| {b.name} | {b.size:,} | {len(b.flatbuffer):,} | `{b.sha256[:16]}` |" for b in bundles),
        "",
        "## Input",
        "",
        f"{config.sample_rate} Hz mono. {config.coefficients} MFCC from {config.mel_bands} mel bands "
        f"({config.fmin:g} to {config.fmax:g} Hz), {1000 * config.frame_length / config.sample_rate:g} ms frames every "
        f"{1000 * config.hop_s:g} ms; the whole configuration, normalisation included, is in the bundle. Level is left "
        f"to the training: copies at {experiment['augmentation']['level_dbfs'][0]:g} to "
        f"{experiment['augmentation']['level_dbfs'][1]:g} dBFS and a random shift of the zeroth coefficient of "
        f"{fit['masking']['level_db']:g} dB.",
        "",
        "## Figures",
        "",
        "Percent; clips overlap by half; silence removed; intervals are 95 % by a bootstrap over recordings within "
        "each class. The test split comes from other collections, speakers and microphones than the training.",
        "",
        markdown_table(evaluations),
        "",
        "## Limits",
        "",
        "- One label a clip: speech over music counts as neither one nor the other; whichever it says is a guess.",
        *(f"- {text}" for text in _confusions(evaluations[0])),
        "- Silence has no class: gate by level before you ask.",
        "- Little telephone, far-field and sung speech was in the training; those were simulated.",
        "",
        "## Training",
        "",
        f"`edge-bench {command} {recipe}{extra}`{taught}; {fit['epochs']} epochs of {fit['steps']} steps, "
        f"{experiment['copies']} augmented copies of each recording, seed {fit['seed']}, keras "
        f"{first.info['training']['keras']}, corpus {first.info['training']['corpus']}.",
        "",
        f"Licence of the weights: {first.info['licence']}. Recordings it learnt from and was chosen on:",
        "",
        "| source | licence | files |",
        "|---|---|---|",
        *(f"| {source} | {licence} | {count} |" for source, licence, count in attribution(used)),
        *(f"\nAuthors, {source}: {', '.join(names)}." for source, names in credits(used).items()),
    ]
    return "\n".join(lines) + "\n"
