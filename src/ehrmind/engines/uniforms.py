"""Uniform numbers that decide sampled tokens: a hash of (seed, step, case, member, position).

A token's number depends on nothing else, so that a question gets the same answers in every batch,
worker and resumed run. SplitMix64 (Steele, Lea, Flood 2014) in numpy's wrapping 64-bit integers.
"""

from __future__ import annotations

import hashlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def question_key(seed: int, purpose: str, step: int, case_id: str) -> int:
    """Hashes a question at one step into a 64-bit key; `purpose` keeps pilot, training and
    evaluation apart.
    """
    digest = hashlib.blake2b(f"{seed}\x00{purpose}\x00{step}\x00{case_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def turn_key(key: int, member: int, turn: int) -> int:
    """Hashes one member's further turn, after a tool's reply, into a key."""
    digest = hashlib.blake2b(f"{key}\x00{member}\x00{turn}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def row_keys(keys: list[int], group_size: int) -> np.ndarray:
    """Returns a uint64 key for each row [questions × group size], the rows of a question next to
    each other.
    """
    with np.errstate(over="ignore"):
        keys_Q = np.asarray(keys, dtype=np.uint64)[:, None]
        return _mix(keys_Q + GOLDEN * np.arange(1, group_size + 1, dtype=np.uint64)[None, :]).reshape(-1)


def uniforms(row_keys_R: np.ndarray, positions_R: np.ndarray | int) -> np.ndarray:
    """Returns a float64 in [0, 1) for each row's token at its position; one position may serve all
    rows.
    """
    with np.errstate(over="ignore"):
        bits = _mix(row_keys_R + GOLDEN * (np.asarray(positions_R, dtype=np.uint64) + np.uint64(1)))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
