"""The collections that ``edge-bench data`` knows: where they are, how large, under which licence, with which checksum.

Sizes and checksums are those that others publish and check against; `Archive.checksum_from` says who. Where nobody
publishes one it is None: the first fetch then records a sha256, and later ones must match it.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime import ConfigError


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Attributes
    ----------
    url : str
    size : int
        Bytes; approximate where no checksum is known.
    checksum : str or None
        ``md5:...`` or ``sha256:...``.
    checksum_from : str
        Who publishes size and checksum.
    """

    url: str
    size: int
    checksum: str | None = None
    checksum_from: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Dataset:
    """A collection.

    Attributes
    ----------
    name : str
        Also its folder's name.
    title, citation, licence, homepage : str
    layout : str
        Name in `layouts.LAYOUTS`, or ``annotated``.
    archives : tuple of Archive
        Places of the same recordings, tried in this order.
    files : int
        Audio files when unpacked.
    unpacked : int
        Bytes when unpacked, roughly.
    damaged : tuple of str
        Files that are known to be unreadable.
    """

    name: str
    title: str
    licence: str
    homepage: str
    citation: str
    layout: str
    archives: tuple[Archive, ...]
    files: int
    unpacked: int
    damaged: tuple[str, ...] = ()


_MUSAN = (11_086_114_085, "md5:0c472d4fc0c5141eca47ad1ffeb2a7df", "WeSpeaker, Kiwano")
_GENRES = (
    1_225_571_541,
    "sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
    "TensorFlow Datasets",
)

DATASETS = (
    Dataset(
        "musan", "MUSAN: music, speech and noise, 109 h",
        "CC BY 4.0 as a whole; each file its own (LICENSE files)", "https://www.openslr.org/17/",
        "Snyder, Chen & Povey: MUSAN: A Music, Speech, and Noise Corpus. arXiv 1510.08484, 2015", "musan",
        (
            Archive("https://www.openslr.org/resources/17/musan.tar.gz", *_MUSAN),
            Archive("https://us.openslr.org/resources/17/musan.tar.gz", *_MUSAN),
            Archive("https://openslr.elda.org/resources/17/musan.tar.gz", *_MUSAN),
        ),
        2016, 12_700_000_000,
    ),
    Dataset(
        "gtzan-music-speech", "GTZAN music/speech: 128 files of 30 s", "not stated (research use)",
        "http://marsyas.info/downloads/datasets.html", "Tzanetakis: GTZAN Music/Speech Collection, 1999",
        "gtzan-music-speech",
        (
            Archive(
                "http://opihi.cs.uvic.ca/sound/music_speech.tar.gz", 297_055_930,
                "sha256:8753bc4129fc0a916d6efcf25dbcaf30e06b41acb44ad7c3d0b5c9d9c90ff546", "TensorFlow Datasets",
            ),
        ),
        128, 350_000_000,
    ),
    Dataset(
        "gtzan-genres", "GTZAN genres: ten of 100 files of 30 s", "not stated (research use)",
        "http://marsyas.info/downloads/datasets.html",
        "Tzanetakis & Cook: Musical genre classification of audio signals. IEEE TSAP 10(5), 2002", "gtzan-genres",
        (
            Archive("http://opihi.cs.uvic.ca/sound/genres.tar.gz", *_GENRES),
            Archive("https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz", *_GENRES),
        ),
        1000, 1_330_000_000, ("jazz.00054.wav", "jazz.00054.au"),
    ),
    Dataset(
        "esc-50", "ESC-50: 2000 environmental sounds of 5 s", "CC BY-NC 3.0; each clip its own (LICENSE)",
        "https://github.com/karolpiczak/ESC-50",
        "Piczak: ESC: Dataset for Environmental Sound Classification. ACM Multimedia, 2015", "esc-50",
        (
            # The branch's zip changes when the branch does; the copy at PaddleAudio does not.
            Archive(
                "https://paddleaudio.bj.bcebos.com/datasets/ESC-50-master.zip", 645_000_000,
                "md5:7771e4b9d86d0945acce719c7a59305a", "PaddleAudio, soundata",
            ),
            Archive(
                "https://github.com/karolpiczak/ESC-50/archive/master.zip", 645_695_005,
                "sha256:805afc618aff80eff0641d51311647871fead5807da68bb18e43a27db47a79ce", "users of the branch, 2026",
            ),
        ),
        2000, 890_000_000,
    ),
    Dataset(
        "mirex-2015", "MIREX music/speech detection examples: 7 long recordings with segments",
        "not stated (research use)", "https://www.music-ir.org/mirex/wiki/2018:Music_and/or_Speech_Detection",
        "MIREX 2015: Music/Speech Classification and Detection, example data", "annotated",
        (
            Archive(
                "http://mirg.city.ac.uk/datasets/muspeak/muspeak-mirex2015-detection-examples.zip", 329_000_000
            ),
        ),
        7, 340_000_000,
    ),
)  # fmt: skip


def find(name: str) -> Dataset:
    """Return a dataset by its name.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    for dataset in DATASETS:
        if dataset.name == name:
            return dataset
    raise ConfigError(f"{name}: no such dataset; known are {', '.join(d.name for d in DATASETS)}")
