"""Headers of FLAC frames, found in bytes without decoding (RFC 9639, section 9.1)."""


def last_flac_frame(tail: bytes) -> int | None:
    """Number of the last frame whose header is whole.

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
