"""The integer arithmetic of TFLite's int8 kernels, bit for bit, on numpy arrays of int64.

A real factor is a 31-bit mantissa and a power of two. TFLite's default build rounds twice, once after the mantissa
and once after the shift; both roundings are kept here, because merging them changes some results by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

_ONE = (1 << 31) - 1  # 1.0 with no integer bits, saturated
_EXP_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2**k), k = -2 .. 4


def doubling_high(a: ArrayLike, b: ArrayLike) -> Array:
    """Return ``a * b / 2**31`` rounded, ties up (gemmlowp: SaturatingRoundingDoublingHighMul)."""
    product: Array = np.multiply(a, b, dtype=np.int64)
    return (product + (1 << 30)) >> 31


def divide_by_power(x: Array, exponent: ArrayLike) -> Array:
    """Return ``x / 2**exponent`` rounded, ties away from zero (gemmlowp: RoundingDivideByPOT)."""
    half = np.left_shift(1, exponent, dtype=np.int64) >> 1
    result: Array = (x + half - ((x < 0) & (half > 0))) >> exponent
    return result


def round_away(x: Array) -> Array:
    """Round to whole numbers in float64, ties away from zero (TFLite: TfLiteRound)."""
    wide = x.astype(np.float64)  # in float32 the sum below could round up to the next whole number
    rounded: Array = np.trunc(wide + np.copysign(0.5, wide))
    return rounded


@dataclass(frozen=True)
class Multiplier:
    """Factors ``mantissa * 2**(exponent - 31)``: one, or one a channel."""

    mantissa: Array
    exponent: Array

    @classmethod
    def nearest(cls, factor: ArrayLike) -> Multiplier:
        """Return the nearest such factor to a positive number (TFLite: QuantizeMultiplier)."""
        fraction, exponent = np.frexp(np.asarray(factor, np.float64))
        mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
        full = mantissa == 1 << 31
        mantissa, exponent = np.where(full, mantissa >> 1, mantissa), exponent.astype(np.int64) + full
        vanishes = exponent < -31
        return cls(np.where(vanishes, 0, mantissa), np.where(vanishes, 0, exponent))

    def over(self, count: int) -> Multiplier:
        """Return a scalar factor divided by a count (TFLite: reference_ops::QuantizedMeanOrSum)."""
        mantissa, exponent = int(self.mantissa), int(self.exponent)
        shift = min(count.bit_length() - 1, 32, 31 + exponent)
        return Multiplier(np.asarray((mantissa << shift) // count), np.asarray(exponent - shift))

    def __call__(self, x: Array) -> Array:
        """Return ``x * factor``, int64 (TFLite: MultiplyByQuantizedMultiplier with double rounding).

        `doubling_high` and `divide_by_power` written out in place: this is where most of the time goes.
        """
        left, right = np.maximum(self.exponent, 0), np.maximum(-self.exponent, 0)
        half = (np.int64(1) << right) >> 1
        result: Array = np.multiply(x, self.mantissa << left, dtype=np.int64)
        result += 1 << 30
        result >>= 31
        below = result >> 63  # -1 for numbers below zero
        if not np.all(half):
            below *= half > 0
        result += half
        result += below
        result >>= right
        return result


@dataclass(frozen=True)
class RoundedOnce:
    """A factor as XNNPACK has it: float32, and the product is rounded once, ties to even."""

    factor: Array

    @classmethod
    def nearest(cls, factor: ArrayLike) -> RoundedOnce:
        """Return a positive number as float32."""
        return cls(np.asarray(factor, np.float64).astype(np.float32))

    def __call__(self, x: Array) -> Array:
        """Return ``x * factor``, int64 (XNNPACK: the fp32 requantisation of sums below 2**24)."""
        return np.rint(x.astype(np.float32) * self.factor).astype(np.int64)


def exp_on_negative(x: Array) -> Array:
    """Return exp of numbers at most 0 with 26 fraction bits, in 31 fraction bits (gemmlowp: exp_on_negative_values).

    A Taylor series around -1/8 gives the last quarter, products of constants the quarters above it.
    """
    quarter = 1 << 24
    within = (x & (quarter - 1)) - quarter
    u = (within << 5) + (1 << 28)  # distance from -1/8, 31 fraction bits
    u2 = doubling_high(u, u)
    third = doubling_high(divide_by_power(doubling_high(u2, u2), 2) + doubling_high(u2, u), 715827883)
    at_eighth = 1895147668
    result = at_eighth + doubling_high(at_eighth, u + divide_by_power(third + u2, 1))
    left = within - x
    for bit, power in enumerate(_EXP_POWERS, start=24):
        result = np.where(left >> bit & 1, doubling_high(result, power), result)
    return np.where(x == 0, _ONE, result)


def reciprocal(x: Array, integer_bits: int) -> tuple[Array, Array]:
    """Return 1 / x as (31 fraction bits, how many bits to shift it right by) (TFLite: GetReciprocal).

    Three Newton steps on ``x`` scaled to 1 .. 2.
    """
    headroom = 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)
    half = (x << headroom) >> 1  # (1 + fraction) / 2, 31 fraction bits
    y = 1515870810 + doubling_high(half, -1010580540)  # 48/17 - 32/17 * half, 29 fraction bits
    for _ in range(3):
        y = y + (doubling_high(y, (1 << 29) - doubling_high(half, y)) << 2)
    return np.minimum(y << 1, _ONE), integer_bits - headroom


def softmax_powers(scale: float) -> Array:
    """Return the exponents of 0, -1 ... -255 steps of a scale, 31 fraction bits; those that do not fit count as 0.

    Steps are multiplied to 26 fraction bits (TFLite: PreprocessSoftmaxScaling with beta 1).
    """
    factor = Multiplier.nearest(min(scale * 2.0**26, 2.0**31 - 1))
    left = int(factor.exponent)
    lowest = -int(31 * 2.0**26 / 2.0**left)
    steps = -np.arange(256, dtype=np.int64)
    powers = exp_on_negative(doubling_high(steps << left, factor.mantissa))
    return np.where(steps >= lowest, powers, 0)


def softmax(x: Array, powers: Array) -> Array:
    """Return the softmax over the last axis of int8 numbers, with scale 1/256 and zero point -128.

    As TFLite's ``reference_ops::Softmax``; `powers` are those of the numbers' scale, the sum has 19 fraction bits.
    """
    wide = x.astype(np.int64)
    own = powers.take(wide.max(-1, keepdims=True) - wide)
    inverse, bits = reciprocal(divide_by_power(own, 12).sum(-1, keepdims=True), 12)
    steps = divide_by_power(doubling_high(own, inverse), bits + 23) - 128
    return np.clip(steps, -128, 127).astype(np.int8)
