"""How a network is trained, as values: nothing here needs Keras.

Schedule: cosine annealing with warm restarts (Loshchilov & Hutter 2017), as the paper trains SwishNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edge_runtime import ConfigError

CLIP_LENGTHS = (2.0, 1.0, 0.5)


@dataclass(frozen=True)
class Masking:
    """Changes made on cepstra or mel bands in dB, new for every batch.

    SpecAugment (Park et al. 2019): spans of time are replaced by mean frames. Level: a gain of g dB moves the zeroth
    coefficient by ``g * sqrt(mel_bands)`` and nothing else. Tone: a gain of ``a cos(pi k (m + 1/2) / mel_bands)`` dB
    over the bands m, as a microphone or a room has, moves coefficient k by ``a * sqrt(mel_bands / 2)``; a is drawn
    with standard deviation ``tone_db / sqrt(k)``.
    """

    spans: int = 1
    longest: int = 25
    level_db: float = 6.0
    tone_db: float = 0.0


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Attributes
    ----------
    epochs, steps : int
        An epoch is `steps` batches, not a pass over the pool.
    validate_every : int
        Epochs from one validation to the next; the last epoch always has one. A training that was
        killed goes on from the latest.
    optimizer : {'adam', 'sgd'}
        SGD has a momentum of 0.9.
    batch : int
        Clips of 2 s in a batch; shorter clips come in larger batches.
    learning_rate, final_rate : float
        Top and bottom of a cosine.
    first_cycle : int
        Epochs of the first cosine; each following one is twice as long.
    patience : int
        Epochs without a better validation score before the training stops.
    ema : float
        Momentum of the averaged weights.
    soft, temperature : float
        With a teacher: the share of the loss that its softened answers have (the rest is the labels'), and how
        much they are softened (Hinton et al. 2015; SwishNet ends at 0.9).
    xla : bool
        Compile the steps of a training of at least 500 with XLA: on two cores SwishNet's take less than half the
        time, after some ten seconds of compiling. Networks with depthwise 2-D convolutions get slower.
    """

    epochs: int = 60
    steps: int = 200
    validate_every: int = 1
    optimizer: str = "adam"
    batch: int = 256
    learning_rate: float = 3e-3
    final_rate: float = 1e-5
    first_cycle: int = 20
    patience: int = 60
    ema: float = 0.998
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    smoothing: float = 0.05
    mixup: float = 0.0
    source_power: float = 0.5
    seed: int = 0
    soft: float = 0.9
    temperature: float = 2.0
    clip_s: tuple[float, ...] = CLIP_LENGTHS
    xla: bool = False
    masking: Masking = field(default_factory=Masking)

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "validate_every", "batch", "first_cycle", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training: {name} is {getattr(self, name)}, must be at least 1")
        if self.optimizer not in ("adam", "sgd"):
            raise ConfigError(f"training: optimizer is {self.optimizer!r}, must be adam or sgd")
        if not self.clip_s or not all(0 < s <= 60 for s in self.clip_s):
            raise ConfigError(f"training: clip_s is {self.clip_s}, must be lengths above 0 s")
        for name, low, high in (
            ("ema", 0, 0.99999), ("smoothing", 0, 0.99), ("clip_norm", 1e-9, 1e9), ("mixup", 0, 10),
            ("weight_decay", 0, 1), ("source_power", 0, 2), ("soft", 0, 1), ("temperature", 1e-3, 1e3),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"training: {name} is {getattr(self, name)}, must be from {low} to {high}")
        if not 0 < self.final_rate <= self.learning_rate:
            raise ConfigError(
                f"training: rates {self.final_rate} and {self.learning_rate} must satisfy "
                "0 < final_rate <= learning_rate"
            )


def rate_at(config: FitConfig, epoch: float) -> float:
    """Return the learning rate after `epoch` epochs: cosines of 1, 2, 4 ... times the first cycle."""
    cycle = float(config.first_cycle)
    while epoch >= cycle:
        epoch, cycle = epoch - cycle, cycle * 2
    low, high = config.final_rate, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * epoch / cycle)) / 2
