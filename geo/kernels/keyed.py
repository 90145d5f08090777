"""SipHash-2-4 of one 64-bit value: the keyed pseudo-random function behind every order that must not follow a place or
a name.

Source: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012. The message is the value's
eight bytes, least significant first; the tests hold the paper's vectors.
"""

import numpy as np
from numba import njit

from geo.kernels.inner import inner

_ROUND_CONSTANTS = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_C0 = np.uint64(_ROUND_CONSTANTS[0])
_C1 = np.uint64(_ROUND_CONSTANTS[1])
_C2 = np.uint64(_ROUND_CONSTANTS[2])
_C3 = np.uint64(_ROUND_CONSTANTS[3])
# The last block: the message's length, 8, in the top byte, and no bytes left over.
_LENGTH_BLOCK = np.uint64(8 << 56)
_END = np.uint64(0xFF)


@inner("u8(u8, u8)", inline="always")
def _rotate_left(value, bits):  # type: ignore[no-untyped-def]
    return (value << bits) | (value >> (np.uint64(64) - bits))


@inner("UniTuple(u8, 4)(u8, u8, u8, u8)")
def _sip_round(v0, v1, v2, v3):  # type: ignore[no-untyped-def]
    v0 += v1
    v1 = _rotate_left(v1, np.uint64(13)) ^ v0
    v0 = _rotate_left(v0, np.uint64(32))
    v2 += v3
    v3 = _rotate_left(v3, np.uint64(16)) ^ v2
    v0 += v3
    v3 = _rotate_left(v3, np.uint64(21)) ^ v0
    v2 += v1
    v1 = _rotate_left(v1, np.uint64(17)) ^ v2
    v2 = _rotate_left(v2, np.uint64(32))
    return v0, v1, v2, v3


@inner("UniTuple(u8, 4)(u8, u8)")
def started(k0, k1):  # type: ignore[no-untyped-def]
    """The state before the first block."""
    return k0 ^ _C0, k1 ^ _C1, k0 ^ _C2, k1 ^ _C3


@inner("UniTuple(u8, 4)(UniTuple(u8, 4), u8)")
def absorbed(state, block):  # type: ignore[no-untyped-def]
    """The state after one more block of eight bytes."""
    v0, v1, v2, v3 = state
    v3 ^= block
    for _ in range(2):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return v0 ^ block, v1, v2, v3


@inner("u8(UniTuple(u8, 4))")
def finished(state):  # type: ignore[no-untyped-def]
    """The hash, after the last block."""
    v0, v1, v2, v3 = state
    v2 ^= _END
    for _ in range(4):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@njit("u8(u8, u8, u8)", cache=True, nogil=True)
def siphash24(k0, k1, value):  # type: ignore[no-untyped-def]
    """SipHash-2-4 of a uint64 under the 128-bit key (k0 low, k1 high): uint64."""
    return finished(absorbed(absorbed(started(k0, k1), value), _LENGTH_BLOCK))


@njit("u8[::1](u8, u8, Array(u8, 1, 'C', readonly=True))", cache=True, nogil=True)
def siphash24_many(k0, k1, values):  # type: ignore[no-untyped-def]
    """``siphash24`` of n values under one key: uint64[n]."""
    out = np.empty(values.size, np.uint64)
    for i in range(values.size):
        out[i] = siphash24(k0, k1, values[i])
    return out
