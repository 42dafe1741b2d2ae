"""Choices that a few random examples shall cover: left to hypothesis, fifteen of them may leave out a type, or a number of axes."""

import zlib

TYPES = ("float64", "float64", "float32", "bfloat16")  # half of all is about the formula, half about rounding


def evenly(options, *drawn):
    """One of the options, each about as often, decided by what has been drawn."""
    return options[zlib.crc32(repr(drawn).encode()) % len(options)]
