"""Mutations that keep JSON whole, so that what lies behind the parser is reached."""

import json
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 2**31, 2**53 + 1, 2**63, -(2**63), 10**400),
    *(0.0, 0.5, -0.5, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "a", "b", "0", "²", "é", "\x00", "\x1b[2J", "\n", "\ud83d", "\U0001f600", "a" * 300),
    *("..", ".", "/", "../../x", "/dev/zero", "a.wav", "train", "<script>", "[/red]", "__proto__"),
    *([], {}, [[]], [None], {"a": 1}, [1, 2], ["a", "b"]),
)


def mutate_json(contents: bytes, seed: int) -> bytes:
    """A line of the input with one value, key or element changed; the input itself where it is no JSON."""
    rng = random.Random(seed)
    lines = contents.split(b"\n")
    places = [row for row, line in enumerate(lines) if line.strip()]
    if not places:
        return contents
    row = rng.choice(places)
    try:
        value = json.loads(lines[row])
        for _ in range(rng.choice((1, 1, 2, 4))):
            value = _mutated(value, rng)
        lines[row] = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return contents
    return b"\n".join(lines)


def _mutated(value: Any, rng: random.Random) -> Any:
    """The value with one thing in it changed, or another in its place."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _other(value, rng)
    if isinstance(value, list):
        return _mutated_list(list(value), rng)
    value = dict(value)
    key = rng.choice(list(value))
    kind = rng.random()
    if kind < 0.1:
        del value[key]
    elif kind < 0.2:
        value[str(rng.choice(VALUES))[:20]] = value.pop(key)
    elif kind < 0.3:
        value[key] = value[rng.choice(list(value))]
    else:
        value[key] = _mutated(value[key], rng)
    return value


def _mutated_list(value: list[Any], rng: random.Random) -> list[Any]:
    place, kind = rng.randrange(len(value)), rng.random()
    if kind < 0.15:
        del value[place]
    elif kind < 0.3:
        value.insert(place, value[rng.randrange(len(value))])
    elif kind < 0.35:
        value *= rng.choice((2, 10))
    else:
        value[place] = _mutated(value[place], rng)
    return value[:1000]


def _other(value: Any, rng: random.Random) -> Any:
    if rng.random() < 0.15:
        return [value]
    if rng.random() < 0.05:
        for _ in range(rng.choice((3, 200))):
            value = [value]
        return value
    return rng.choice(VALUES)
