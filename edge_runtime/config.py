"""The one description of a front end, shared by training, calibration, evaluation and the board.

A configuration is a frozen value: equal configurations give equal features, and ``key()`` names the
features that they give (the cache of ``train`` and the check on a board use it).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import ConfigError

KINDS = ("mfcc", "log_mel", "power")
MEL_SCALES = ("slaney", "htk")
MEL_NORMS = ("slaney", "none")
WINDOWS = ("hann", "hamming", "rectangular")


@dataclass(frozen=True)
class FrontEndConfig:
    """What turns samples into features.

    The defaults are those of SwishNet (Hussain & Haque 2018, section 3: 20 coefficients from 32 mel
    bands, 16 kHz, 25 ms frames, 10 ms hop). The paper is silent on the rest, so these are *ours*:

    * a periodic Hann window and the Slaney mel scale with area normalisation, because they are what
      ``librosa.filters.mel`` and ``librosa.feature.mfcc`` do by default, so anybody can check us;
    * bands from 50 to 7600 Hz: below lies mains hum, above lie anti-alias filters and codecs, which
      tell the recording chain and not the class;
    * ``power_floor`` 1e-7 (-70 dB): about the power that white noise of -80 dBFS leaves in a band, so
      digital silence and a quiet microphone look alike. A constant floor, never relative to the
      recording's maximum: a stream has no maximum.

    Attributes
    ----------
    kind : {'mfcc', 'log_mel', 'power'}
        Last stage: cepstral coefficients, mel bands in dB, or the power spectrum.
    sample_rate : int
        Hz.
    frame_length, hop_length, fft_length : int
        Samples; the frame is zero-padded at its end to ``fft_length``.
    window : {'hann', 'hamming', 'rectangular'}
        Periodic form, over ``frame_length`` samples.
    mel_bands : int
    mel_scale, mel_norm : str
    fmin, fmax : float
        Hz; edges of the mel bands.
    power_floor : float
        Smallest band power before the logarithm.
    coefficients : int
        Number of cepstral coefficients (orthonormal DCT-II), the zeroth included.
    mean, scale : tuple of float
        Normalisation ``(feature - mean) * scale`` for each feature, from the train split; empty for none.
        A frame of zeros is then the mean frame.
    """

    kind: str = "mfcc"
    sample_rate: int = 16000
    frame_length: int = 400
    hop_length: int = 160
    fft_length: int = 512
    window: str = "hann"
    mel_bands: int = 32
    mel_scale: str = "slaney"
    mel_norm: str = "slaney"
    fmin: float = 50.0
    fmax: float = 7600.0
    power_floor: float = 1e-7
    coefficients: int = 20
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", KINDS),
            ("window", WINDOWS),
            ("mel_scale", MEL_SCALES),
            ("mel_norm", MEL_NORMS),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"front end: {name} is {getattr(self, name)!r}, must be one of {allowed}")
        for name in ("sample_rate", "frame_length", "hop_length", "fft_length", "mel_bands", "coefficients"):
            value = getattr(self, name)
            largest = {"sample_rate": 1 << 20, "mel_bands": 1024, "coefficients": 1024}.get(name, 1 << 14)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
                raise ConfigError(f"front end: {name} is {value!r}, must be a whole number from 1 to {largest}")
        if self.frame_length > self.fft_length:
            raise ConfigError(
                f"front end: frame_length {self.frame_length} is above fft_length {self.fft_length}"
            )
        if self.hop_length > self.frame_length:
            raise ConfigError(
                f"front end: hop_length {self.hop_length} is above frame_length {self.frame_length}"
            )
        if self.mel_bands > self.fft_length:
            raise ConfigError(f"front end: {self.mel_bands} mel bands from an FFT of {self.fft_length}")
        for name in ("fmin", "fmax", "power_floor"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > 1e300:
                raise ConfigError(f"front end: {name} is {value!r}, must be a number")
            # a float whatever was given, so that equal configurations have equal keys
            object.__setattr__(self, name, float(value))
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ConfigError(
                f"front end: fmin {self.fmin} and fmax {self.fmax} must satisfy "
                f"0 <= fmin < fmax <= {self.sample_rate / 2} Hz"
            )
        if not 1e-30 <= self.power_floor <= 1e30:
            raise ConfigError(f"front end: power_floor is {self.power_floor!r}, must be from 1e-30 to 1e30")
        if self.kind == "mfcc" and self.coefficients > self.mel_bands:
            raise ConfigError(
                f"front end: {self.coefficients} coefficients cannot come from {self.mel_bands} mel bands"
            )
        for name in ("mean", "scale"):
            try:
                values = tuple(float(v) for v in getattr(self, name))
            except (TypeError, ValueError, OverflowError):
                raise ConfigError(f"front end: {name} holds something that is no number") from None
            object.__setattr__(self, name, values)
            if values and len(values) != self.features:
                raise ConfigError(f"front end: {name} has {len(values)} values for {self.features} features")
            if not all(math.isfinite(v) for v in values):
                raise ConfigError(f"front end: {name} holds a value that is not finite")
        if bool(self.mean) != bool(self.scale):
            raise ConfigError("front end: mean and scale go together")
        if not all(self.scale):
            raise ConfigError("front end: a scale of 0 would lose its feature")
        if self.mean and self.kind == "power":
            raise ConfigError("front end: the power spectrum takes no normalisation")

    @property
    def features(self) -> int:
        """Number of values in a frame."""
        if self.kind == "mfcc":
            return self.coefficients
        return self.mel_bands if self.kind == "log_mel" else self.fft_length // 2 + 1

    @property
    def hop_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate

    def frames(self, samples: int) -> int:
        """Number of whole frames in a recording of `samples` samples."""
        return max(0, (samples - self.frame_length) // self.hop_length + 1)

    def samples(self, frames: int) -> int:
        """Fewest samples that hold `frames` frames."""
        return 0 if frames <= 0 else (frames - 1) * self.hop_length + self.frame_length

    def normalised(self, mean: Any, scale: Any) -> FrontEndConfig:
        """Return this configuration with another normalisation."""
        return replace(self, mean=tuple(map(float, mean)), scale=tuple(map(float, scale)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        values = asdict(self)
        values["mean"], values["scale"] = list(self.mean), list(self.scale)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrontEndConfig:
        """Build a configuration from ``to_dict``'s values.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is of the wrong kind.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"front end: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        try:
            arguments: dict[str, Any] = {k: tuple(v) if k in ("mean", "scale") else v for k, v in values.items()}
            return cls(**arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"front end: {error}") from None

    def key(self) -> str:
        """Return a short name of the features that this configuration gives (sha256, 16 digits)."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
