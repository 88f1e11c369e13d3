"""Lengths as the bytes of a sound file say them: what libsndfile takes for whole may be cut off or joined.

Sources: the RIFF specification (IBM and Microsoft 1991), ISO/IEC 11172-3 section 2.4 (MPEG audio headers), the Xing
and LAME tags of encoders, RFC 9639 (FLAC metadata), RFC 3533 (Ogg pages).
"""

import math
import os
from pathlib import Path
from typing import IO, NamedTuple

from moe_lightning.data.flac_frames import last_flac_frame
from moe_lightning.data.utterance import AudioInfo

_HEAD_BYTES = 2**16
_LENGTH_OF_A_PIPE = 2**31 - 2**16
"""Minimum length in bytes that sox and ffmpeg write if they cannot return to the header."""
_MOST_CHUNKS = 1000


JOINED = (
    "holds several recordings one after another, of which decoders read the first; cut it apart, or write it anew as"
    " one (`ffmpeg -f concat`)"
)
_BEHIND = "holds {seconds:.2f} s more behind the end that its header gives; write it anew (`sox --ignore-length`)"
_UNTOLD = (
    "holds {held:.2f} s, and decoders take it for {told:.2f} s: an mp3 of variable bitrate without a header of its"
    " length; write it anew (`ffmpeg -i old.mp3 -c copy new.mp3`)"
)


class Bytes(NamedTuple):
    """Length of a recording according to its bytes."""

    held: float
    """Seconds in the file."""
    lost: float = 0.0
    """Seconds that the header promises and the file lacks."""
    unread: str = ""
    """What decoders would not read, and the way out; "" if they read all."""


def measure(audio_file: Path, info: AudioInfo) -> Bytes:
    """Compare the length that libsndfile tells with the file's bytes; formats without such faults pass."""
    with audio_file.open("rb") as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD_BYTES)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return _measure_wav(file, size, info)
        if head[:4] == b"OggS":
            return _measure_ogg(file, head, size, info)
        if head[:4] == b"fLaC":
            return _measure_flac(file, head, size, info)
        if head[:3] == b"ID3" or _frame(head, 0):
            return _measure_mp3(file, size, info)
    missing = _promised_end(head) - size
    return Bytes(info.seconds, info.seconds * max(0, missing) / max(size, 1))


def _promised_end(head: bytes) -> int:
    """Length of the file by its header; 0 where it does not tell."""
    if head[:4] == b"FORM":  # AIFF
        return 8 + int.from_bytes(head[4:8], "big")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return 8 + int.from_bytes(head[20:28], "little")
    if head[:4] == b"riff":  # Wave64
        return int.from_bytes(head[16:24], "little")
    if head[:4] == b".snd":
        length = int.from_bytes(head[8:12], "big")
        return 0 if length == 0xFFFFFFFF else int.from_bytes(head[4:8], "big") + length
    if head[:4] == b"NIST":
        lines = head[:1024].decode("ascii", "replace").splitlines()
        told = {words[0]: words[2] for line in lines if len(words := line.split()) == 3}
        numbers = [told.get(name, "") for name in ("sample_count", "channel_count", "sample_n_bytes")]
        if len(lines) > 1 and lines[1].strip().isdecimal() and all(number.isdecimal() for number in numbers):
            return int(lines[1]) + int(numbers[0]) * int(numbers[1]) * int(numbers[2])
    return 0


def _measure_wav(file: IO[bytes], size: int, info: AudioInfo) -> Bytes:
    """By the length of the data chunk, and by what follows it; a header written to a pipe has no true length."""
    bytes_a_second, place = 0, 12
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8:
            break
        if chunk[:4] == b"fmt ":
            bytes_a_second = int.from_bytes(file.read(12)[8:12], "little")
        if chunk[:4] == b"data":
            if not (0 < length < _LENGTH_OF_A_PIPE and bytes_a_second > 0):
                break
            end = place + 8 + length
            lost = max(0.0, (end - size) / bytes_a_second)
            return Bytes(info.seconds, lost, _behind_wav(file, end, size, bytes_a_second))
        place += 8 + length + length % 2
    return Bytes(info.seconds)


def _behind_wav(file: IO[bytes], end: int, size: int, bytes_a_second: int) -> str:
    """What lies behind the data of a wav that is no chunk: a second recording, or more samples."""
    place = end + end % 2
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        chunk = file.read(8)
        if chunk[:4] == b"RIFF":
            return JOINED
        length = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8 or not any(chunk):
            return ""
        if not chunk[:4].isascii() or not chunk[:4].decode().isprintable() or place + 8 + length > size + 1:
            seconds = (size - place) / bytes_a_second
            return _BEHIND.format(seconds=seconds) if seconds > _LEAST_BEHIND else ""
        place += 8 + length + length % 2
    return ""


_LEAST_BEHIND = 0.1
"""Seconds: less may be padding."""


def _measure_ogg(file: IO[bytes], head: bytes, size: int, info: AudioInfo) -> Bytes:
    """By the streams that begin, and by the last page, which must be whole."""
    first, place = set(), 0
    while (
        head[place : place + 4] == b"OggS" and len(head) >= place + 27 and head[place + 5] & 2
    ):  # a page that begins a stream
        first.add(head[place + 14 : place + 18])
        place += _page_size(head, place)
    file.seek(max(0, size - _HEAD_BYTES))
    tail = file.read()
    last = tail.rfind(b"OggS")
    if first and 0 <= last <= len(tail) - 18 and tail[last + 14 : last + 18] not in first:
        return Bytes(info.seconds, unread=JOINED)
    missing = last + _page_size(tail, last) - len(tail) if first and last >= 0 else 0
    return Bytes(info.seconds, max(_LEAST_LOST, info.seconds * missing / size) if missing > 0 else 0.0)


_LEAST_LOST = 1.0
"""Seconds that count as lost from an Ogg file whose last page is not whole: nobody can tell how many followed."""


def _page_size(data: bytes, place: int) -> int:
    """Bytes of an Ogg page; one more than there are for a header that is cut off."""
    segments = data[place + 26] if len(data) > place + 26 else 0
    table = data[place + 27 : place + 27 + segments]
    return 27 + segments + sum(table) + (len(table) < segments or len(data) <= place + 26)


def _measure_flac(file: IO[bytes], head: bytes, size: int, info: AudioInfo) -> Bytes:
    """By the number of the last frame, for a fixed block size; others are left to the decoder."""
    smallest, largest = int.from_bytes(head[8:10], "big"), int.from_bytes(head[10:12], "big")
    begin = max(0, size - _HEAD_BYTES)
    file.seek(begin)
    tail = file.read()
    is_second = tail.find(head[:8], 0 if begin else 1) >= 0
    if is_second or _most_bytes_of_flac(file, info.num_samples, smallest) + _HEAD_BYTES < size:
        return Bytes(info.seconds, unread=JOINED)
    if smallest != largest or not largest or (number := last_flac_frame(tail)) is None:
        return Bytes(info.seconds)
    held = min(info.seconds, (number + 1) * largest / info.sample_rate)
    is_joined = number > (info.num_samples - 1) // largest
    return Bytes(held, info.seconds - held, JOINED if is_joined else "")


def _most_bytes_of_flac(file: IO[bytes], num_samples: int, block_size: int) -> float:
    """Length of the file if each frame were as large as the largest; infinite where the header does not tell it."""
    place = 4
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        block = file.read(18)
        if place == 4:
            largest = int.from_bytes(block[11:14], "big")
        place += 4 + int.from_bytes(block[1:4], "big")
        if len(block) < 4 or block[0] & 0x80:  # the last block of metadata
            break
    return place + -(-num_samples // block_size) * largest if largest and block_size else math.inf


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
        return _measure_frames(file, start + skipped, info)
    place = 12 if tag[7] & 1 else 8
    said = int.from_bytes(tag[place : place + 4], "big")
    end = start + skipped + said
    lost = info.seconds * max(0, end - size) / max(1, said)
    file.seek(_after_id3(file, end))
    follows = file.read(4)
    is_joined = end < size and _frame(follows, 0) is not None
    return Bytes(info.seconds - lost, lost, JOINED if is_joined else "")


def _measure_frames(file: IO[bytes], start: int, info: AudioInfo) -> Bytes:
    """By all frames: without a tag, decoders reckon the length from the first one's bitrate."""
    file.seek(start)
    data, place, num_samples = file.read(), 0, 0
    sizes = set()
    while place < len(data) - 4:
        frame = _frame(data, place)
        if frame is None or not (_frame(data, place + frame.size) or place + frame.size >= len(data) - 4):
            found = data.find(b"\xff", place + 1)  # behind a tag between frames, or an error
            place = found if found >= 0 else len(data)
            continue
        num_samples, place = num_samples + frame.num_samples, place + frame.size
        sizes.add(frame.size)
    held = num_samples / info.sample_rate
    is_told = len(sizes) < 3 or abs(held - info.seconds) < _TOLD
    return Bytes(info.seconds, unread="" if is_told else _UNTOLD.format(held=held, told=info.seconds))


_TOLD = 0.2
"""Seconds by which the length that decoders reckon may be wrong."""


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
