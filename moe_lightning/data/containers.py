"""Lengths as the bytes of a sound file say them: what libsndfile takes for whole may be cut off or joined.

Sources: the RIFF specification (IBM and Microsoft 1991), ISO/IEC 11172-3 section 2.4 (MPEG audio headers), the Xing
and LAME tags of encoders, RFC 9639 (FLAC), RFC 3533 (Ogg pages).
"""

import os
from pathlib import Path
from typing import IO, NamedTuple

from moe_lightning.data.utterance import AudioInfo

_HEAD_BYTES = 2**16
_LENGTH_OF_A_PIPE = 2**31 - 2**16
"""Minimum length in bytes that sox and ffmpeg write if they cannot return to the header."""
_MOST_CHUNKS = 1000


class Bytes(NamedTuple):
    """Length of a recording according to its bytes."""

    held: float
    """Seconds in the file."""
    lost: float = 0.0
    """Seconds that the header promises and the file lacks."""
    is_joined: bool = False
    """True if more audio follows, which decoders do not read."""


def measure(audio_file: Path, info: AudioInfo) -> Bytes:
    """Compare the length that libsndfile tells with the file's bytes; formats without such faults pass."""
    with audio_file.open("rb") as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD_BYTES)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return Bytes(info.seconds, _missing_of_wav(file, size))
        if head[:4] == b"OggS":
            return Bytes(info.seconds, is_joined=_is_chained(file, head, size))
        if head[:4] == b"fLaC":
            return _measure_flac(file, head, size, info)
        if head[:3] == b"ID3" or _frame(head, 0):
            return _measure_mp3(file, size, info)
    return Bytes(info.seconds)


def _missing_of_wav(file: IO[bytes], size: int) -> float:
    """Seconds of the data chunk behind the end of the file; a header written to a pipe has no true length."""
    bytes_a_second, place = 0, 12
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8:
            return 0.0
        if chunk[:4] == b"fmt ":
            bytes_a_second = int.from_bytes(file.read(12)[8:12], "little")
        if chunk[:4] == b"data":
            is_known = 0 < length < _LENGTH_OF_A_PIPE and bytes_a_second > 0
            return max(0.0, (length - (size - place - 8)) / bytes_a_second) if is_known else 0.0
        place += 8 + length + length % 2
    return 0.0


def _is_chained(file: IO[bytes], head: bytes, size: int) -> bool:
    """True if the last page belongs to none of the streams whose first pages (flag 2) begin the file."""
    first, place = set(), 0
    while (
        head[place : place + 4] == b"OggS" and len(head) >= place + 27 and head[place + 5] & 2
    ):  # a page that begins a stream
        first.add(head[place + 14 : place + 18])
        segments = head[place + 26]
        place += 27 + segments + sum(head[place + 27 : place + 27 + segments])
    file.seek(max(0, size - _HEAD_BYTES))
    tail = file.read()
    last = tail.rfind(b"OggS")
    return bool(first) and 0 <= last <= len(tail) - 18 and tail[last + 14 : last + 18] not in first


def _measure_flac(file: IO[bytes], head: bytes, size: int, info: AudioInfo) -> Bytes:
    """By the number of the last frame, for a fixed block size; others are left to the decoder."""
    smallest, largest = int.from_bytes(head[8:10], "big"), int.from_bytes(head[10:12], "big")
    begin = max(0, size - _HEAD_BYTES)
    file.seek(begin)
    tail = file.read()
    if tail.find(head[:8], 0 if begin else 1) >= 0:  # a second stream begins
        return Bytes(info.seconds, is_joined=True)
    if smallest != largest or not largest or (number := _last_flac_frame(tail)) is None:
        return Bytes(info.seconds)
    held = min(info.seconds, (number + 1) * largest / info.sample_rate)
    return Bytes(held, info.seconds - held, is_joined=number > (info.num_samples - 1) // largest)


def _last_flac_frame(tail: bytes) -> int | None:
    """Number of the last frame whose header is whole (RFC 9639, section 9.1).

    Samples can look like a header. A frame counts if the one before it is there too, with the same rate and bits.
    """
    seen: set[tuple[int, int, int]] = set()
    last, place = None, -1
    while (place := tail.find(b"\xff\xf8", place + 1)) >= 0:
        head = tail[place : place + 16]
        if len(head) < 6 or head[3] & 1 or (coded := _coded_number(head[4:11])) is None:
            continue
        number, length = coded
        end = 4 + length + {6: 1, 7: 2}.get(head[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
        if end >= len(head) or _crc8(head[:end]) != head[end]:
            continue
        rate, bits = head[2] & 15, head[3] >> 1 & 7
        if number == 0 or (number - 1, rate, bits) in seen:
            last = number
        seen.add((number, rate, bits))
    return last


def _coded_number(data: bytes) -> tuple[int, int] | None:
    """A number in the way of UTF-8, up to 36 bits, and its length in bytes."""
    first = data[0]
    length = 1 if first < 0x80 else next((n for n in range(2, 8) if first >> (7 - n) == (1 << (n + 1)) - 2), 0)
    if not length or len(data) < length or any(byte >> 6 != 2 for byte in data[1:length]):
        return None
    value = first if length == 1 else first & ((1 << (7 - length)) - 1)
    for byte in data[1:length]:
        value = value << 6 | byte & 0x3F
    return value, length


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc8_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1 ^ (0x07 if byte & 0x80 else 0)) & 0xFF
    return byte


_CRC8 = [_crc8_of(byte) for byte in range(256)]


class _Frame(NamedTuple):
    """Header of an MPEG audio frame."""

    size: int
    num_samples: int
    tag: int
    """Place of a Xing tag in it."""


def _measure_mp3(file: IO[bytes], size: int, info: AudioInfo) -> Bytes:
    """By the tag of the first frame, which counts the bytes of the stream; without it decoders read to the end."""
    start = _after_id3(file, 0)
    file.seek(start)
    head = file.read(2048)
    skipped = next((place for place in range(len(head) - 4) if _frame(head, place)), None)
    frame = None if skipped is None else _frame(head, skipped)
    if skipped is None or frame is None:
        return Bytes(info.seconds)
    tag = head[skipped + frame.tag : skipped + frame.tag + 16]
    if tag[:4] not in (b"Xing", b"Info") or not tag[7] & 2:
        return Bytes(info.seconds)
    place = 12 if tag[7] & 1 else 8
    said = int.from_bytes(tag[place : place + 4], "big")
    end = start + skipped + said
    lost = info.seconds * max(0, end - size) / max(1, said)
    file.seek(_after_id3(file, end))
    follows = file.read(4)
    return Bytes(info.seconds - lost, lost, is_joined=end < size and _frame(follows, 0) is not None)


def _after_id3(file: IO[bytes], place: int) -> int:
    """Place behind an ID3 tag (version 2) that begins here; the same place without one."""
    file.seek(place)
    head = file.read(10)
    if len(head) < 10 or head[:3] != b"ID3":
        return place
    length = 0
    for byte in head[6:10]:
        length = length << 7 | byte & 0x7F
    return place + 10 + length


_BITRATES = {
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits per second by version and layer; other layers are none of mp3."""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Hz by the version's bits: MPEG 1, 2, 2.5."""


def _frame(data: bytes, place: int) -> _Frame | None:
    """The frame whose header lies at a place; None if there is none of layer 3."""
    head = data[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version not in _RATES or layer != 1 or not 0 < bitrate < 15 or rate == 3:
        return None
    is_first = version == 3
    num_samples = 1152 if is_first else 576
    kilobits, hertz = _BITRATES[1 if is_first else 2, 3][bitrate - 1], _RATES[version][rate]
    size = num_samples // 8 * 1000 * kilobits // hertz + (head[2] >> 1 & 1)
    is_mono = head[3] >> 6 == 3
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(size, num_samples, 4 + side)
