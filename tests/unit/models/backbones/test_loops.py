"""Loops of a decoder: found as they arise, against the obvious search of the whole text."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.models.backbones.decoding import (
    LONG_RUN,
    Limits,
    LoopWatch,
    Spoken,
    compression_ratio,
    greedy,
    longest_spoken_run,
    num_before_loop,
)

END = 9
SENTENCE = [3, 1, 4, 1, 5, 2, 6]


def num_said_once(tokens: Sequence[int]) -> int | None:
    """Tokens before the second time of a phrase that fills the end of a text, said three times or more."""
    found = []
    for lag in range(1, len(tokens)):
        run = lag
        while run < len(tokens) and tokens[-1 - (run - lag)] == tokens[-1 - run]:
            run += 1
        if run >= max(LONG_RUN, 3 * lag):
            found.append(len(tokens) - (run - lag))
    return min(found, default=None)


@pytest.mark.parametrize("seed", range(20))
def test_a_loop_is_seen_at_the_token_that_makes_it_one(seed: int) -> None:
    rng = random.Random(seed)
    rows = []
    for _ in range(4):
        phrase = rng.choices(range(3), k=rng.randint(1, 12))
        rows.append((rng.choices(range(4), k=rng.randint(0, 20)) + phrase * 60)[:60])
    watch = LoopWatch(torch.full((4,), LONG_RUN))
    for length in range(1, 61):
        is_looping = watch.see(torch.tensor([row[length - 1] for row in rows])).tolist()
        expected = [num_said_once(row[:length]) for row in rows]
        assert is_looping == [one is not None for one in expected]
        for row, one in enumerate(expected):
            assert one is None or int(watch.num_once_B[row]) == one


@pytest.mark.parametrize(
    ("tokens", "text", "seconds", "expected"),
    [
        (SENTENCE, "it was said once", 1.0, None),
        (SENTENCE * 2, "it was said in haste, " * 2, 1.0, 7),
        (SENTENCE * 2, "it was said at leisure, " * 2, 5.0, None),
        ([8, *SENTENCE * 9], "it was said at leisure, " * 9, 60.0, 8),
        ([1] * 11, "no " * 11, 10.0, None),
        (list(range(200)), "many words in no time " * 9, 1.0, None),
    ],
    ids=["once", "twice too fast", "twice", "again and again", "a short word", "nothing said twice"],
)
def test_a_finished_text_is_a_loop_if_a_phrase_is_repeated_too_fast_or_too_often(
    tokens: list[int], text: str, seconds: float, expected: int | None
) -> None:
    assert num_before_loop(tokens, text, seconds) == expected


DOUBLED_WORDS = {
    "bn": "আমাদের ছোট নদী চলে বাঁকে বাঁকে, বৈশাখ মাসে তার হাঁটু জল থাকে। "
    "পার হয়ে যায় গরু, পার হয় গাড়ি, দুই ধার উঁচু তার, ঢালু তার পাড়ি। চিক্ চিক্ করে বালি, কোথা নাই কাদা, "
    "একধারে কাশবন ফুলে ফুলে সাদা। কিচিমিচি করে সেথা শালিকের ঝাঁক, রাতে ওঠে থেকে থেকে শেয়ালের হাঁক।",
    "ta": "அவர்கள் மெதுவாக மெதுவாக நடந்து சின்ன சின்ன வீடுகள் இருந்த கிராமத்திற்குச் சென்றார்கள். "
    "அங்கே இருந்த மக்கள் அவர்களை அன்போடு வரவேற்றார்கள். "
    "பிறகு அவர்கள் ஒன்றாக உட்கார்ந்து உணவு சாப்பிட்டார்கள், பழைய கதைகளைப் பேசினார்கள், இரவு முழுவதும் பாடினார்கள்.",
    "te": "వారు మెల్లగా మెల్లగా నడిచి చిన్న చిన్న ఇళ్ళు ఉన్న గ్రామానికి వెళ్ళారు. అక్కడి ప్రజలు వారిని ప్రేమతో ఆహ్వానించారు. తరువాత వారు కలిసి కూర్చుని "
    "భోజనం చేశారు, పాత కథలు చెప్పుకున్నారు, రాత్రంతా పాటలు పాడారు.",
    "my": "ကျွန်တော်တို့သည် ဖြည်းဖြည်းချင်း လမ်းလျှောက်ပြီး ကျေးရွာသို့ ပြန်သွားကြသည်။ ရွာသားများက ကျွန်တော်တို့ကို ဝမ်းမြောက်ဝမ်းသာ ကြိုဆိုကြသည်။ ထို့နောက် အတူတူ "
    "ထိုင်ပြီး ထမင်းစားကြသည်၊ ပုံပြင်များ ပြောကြသည်၊ တစ်ညလုံး သီချင်းဆိုကြသည်။",
    "numbers": " ".join(["four"] * 12),
    "counting": "one two three " * 5,
    "no": "no " * 14,
    "syllables": "pa ta ka " * 12,
    "test": "testing one two three " * 3,
}
"""Ordinary prose with doubled words, and repetition as people speak it. Bengali: Tagore, "Amader Chhoto Nodi"."""


@pytest.mark.parametrize("name", DOUBLED_WORDS)
def test_words_that_people_repeat_are_kept(name: str) -> None:
    text = DOUBLED_WORDS[name]
    tokens = list(text.encode())  # the worst tokenizer: a token a byte
    assert num_before_loop(tokens, text, len(text) / 15) is None


@pytest.mark.parametrize("name", DOUBLED_WORDS)
def test_the_same_words_without_end_are_a_loop(name: str) -> None:
    text = DOUBLED_WORDS[name] * 8
    tokens = list(text.encode())
    once = num_before_loop(tokens, text, 5.0)
    assert once is not None
    assert once <= len(DOUBLED_WORDS[name].encode())


def test_a_repetition_is_a_loop_beyond_what_the_recording_can_hold() -> None:
    assert longest_spoken_run(torch.tensor([0.5, 3.0, 30.0])).tolist() == [24, 24, 240]


def test_the_compression_ratio_is_openais_and_the_same_for_every_script() -> None:
    assert compression_ratio("") == 0.0
    assert max(compression_ratio(DOUBLED_WORDS[name]) for name in ("bn", "ta", "te", "my")) < 1.8
    assert compression_ratio(DOUBLED_WORDS["ta"] * 4) > 2.4
    assert compression_ratio("Thank you. " * 20) > 2.4 > compression_ratio("The lead had dried into a pan.")


def write(rows: Sequence[Sequence[int]], spoken: Sequence[int] | None, most: int = 100) -> tuple[list, list, Tensor]:
    """Greedy search of a decoder that writes these rows, whatever it reads."""

    def step(_: Tensor, number: int) -> Tensor:
        token_B = torch.tensor([(*row, *[END] * most)[number] for row in rows])
        return F.one_hot(token_B, 10).float().log_softmax(dim=1)

    limits = Limits(most, spoken and Spoken(torch.tensor(spoken), torch.full((len(spoken),), LONG_RUN)))
    is_open_B = torch.ones(len(rows), dtype=torch.bool)
    found = greedy(step, torch.zeros(len(rows), 3, dtype=torch.int64), is_open_B, limits, END)
    texts = [row[: row.index(END)] if END in row else row for row in found.tokens_BS.tolist()]
    return texts, found.num_once_B.tolist(), found.scores_B


def test_what_runs_in_a_loop_ends_early_and_its_company_is_written_to_the_end() -> None:
    long = random.Random(0).choices(range(8), k=60)
    texts, num_once, _ = write([[7, *SENTENCE * 20], long, SENTENCE], [90, 90, 90])
    assert texts == [[7, *SENTENCE * 3 + SENTENCE[:3]], long, SENTENCE]
    assert num_once == [8, -1, -1]


def test_what_is_longer_than_can_be_said_ends_there_and_counts_as_a_loop() -> None:
    texts, num_once, _ = write([[number % 8 for number in range(20)], SENTENCE], [15, 15], most=100)
    assert (len(texts[0]), num_once) == (15, [15, -1])


def test_without_the_guard_a_loop_runs_on_to_the_limit() -> None:
    texts, num_once, _ = write([SENTENCE * 30, SENTENCE], None)
    assert texts == [(SENTENCE * 30)[:100], SENTENCE]
    assert num_once == [-1, -1]


def test_the_score_of_a_loop_is_that_of_the_words_before_it() -> None:
    once, again = write([SENTENCE], [90])[2], write([SENTENCE * 20], [90])[2]
    torch.testing.assert_close(again, once)  # every token of this decoder is as likely as another
