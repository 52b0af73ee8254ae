"""How large a batch is once it is unpacked: anybody who may write to a topic can
pack gigabytes into a kilobyte."""

from __future__ import annotations

from typing import Any

import cramjam

__all__ = ["fits"]

_HEADER = 61
"""Bytes before what is packed."""
_ATTRIBUTES = 22
"""Where the low byte of the attributes is; its lowest three bits name the way it is packed."""
_LIBRARIES: dict[int, Any] = {1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}
_RATIOS = {0: 1, 1: 1_100, 2: 22, 3: 260}
"""How many times as large it may become at most; zstd knows no limit."""
_USUAL = 16
"""How many times as large it mostly is, at most."""


def fits(batch: memoryview, most: int) -> bool:
    """Whether it has at most `most` bytes, as far as it can be unpacked at all."""
    kind = batch[_ATTRIBUTES] & 7
    packed = batch[_HEADER:]
    if kind in _RATIOS and len(packed) * _RATIOS[kind] <= most:
        return True
    library = _LIBRARIES.get(kind)
    if library is None and kind != 2:  # not packed, or in a way that nobody knows
        return len(packed) <= most

    data = bytes(packed)
    if library is None:
        return _snappy(data, most)
    return any(
        _fits_in(library, data, size) for size in (min(most, _USUAL * len(data) + 65_536), most)
    )


def _fits_in(library: Any, packed: bytes, size: int) -> bool:
    try:
        library.decompress_into(packed, bytearray(size))
    except cramjam.DecompressionError as error:
        return "whole buffer" not in str(error)  # else it is damaged, which unpacking it reports
    return True


def _snappy(packed: bytes, most: int) -> bool:
    """It says how much it is; in pieces, as some clients pack it, it is at
    most so many times as large."""
    try:
        return bool(cramjam.snappy.decompress_raw_len(packed) <= most)
    except cramjam.DecompressionError:
        return True
