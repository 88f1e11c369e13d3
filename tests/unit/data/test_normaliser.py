"""Texts that are said alike are compared as the same, in every language."""

import random
import unicodedata

import pytest
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from moe_lightning.data.languages import language_code
from moe_lightning.data.normaliser import Normaliser, english_words, has_spaces, normalised
from tests.unit.data.sentences import SENTENCES

SAID_ALIKE = [
    ("six two two six", "6226", "6 2 2 6", "6-2-2-6", "6,2,2,6", "6.2.2.6", "62 26", "Six, two, two, six.", "6,226",
     "six thousand two hundred twenty six", "sixty two twenty six", "six double two six"),
    ("one percent", "1%", "1 %"),
    ("well I think", "Well... I think..."),
    ("oh six two", "zero six two", "062", "0 6 2", "0-6-2"),
    ("zero zero seven", "007", "double zero seven"),
    ("twenty one", "twenty-one", "21", "2 1"),
    ("one thousand nine hundred and ninety nine", "nineteen ninety nine", "1999", "1,999"),
    ("nineteen nineties", "1990s"),
    ("five dollars", "$5", "$5.00"),
    ("two dollars and seven cents", "$2.07"),
    ("six thousand two hundred and twenty six", "6,226", "6226"),
    ("three point five", "3.5"),
    ("three point one", "3.1"),
    ("two point zero", "2.0"),
    ("zero point five", "0.5"),
    ("first", "1st", "First."),
    ("twenty ninth", "29th", "29 th"),
    ("minus five", "-5", "−5"),
    ("five percent", "5%", "5 %", "five per cent"),
    ("ten oh five", "10:05"),
    ("five thirty", "5:30"),
    ("no one", "no 1"),
    ("I don't know", "i don’t know", "I do not know."),
    ("the colour of my favourite grey tyre", "The color of my favorite gray tire!"),
    ("uh well [noise] it's, um, café-like", "Well, it is cafe like"),
]  # fmt: skip


def english(text: str) -> str:
    return Normaliser()(text, "en")


@pytest.mark.parametrize("texts", SAID_ALIKE, ids=lambda texts: texts[0])
def test_english_that_is_said_alike_is_the_same(texts: tuple[str, ...]) -> None:
    assert len({english(text) for text in texts}) == 1, [english(text) for text in texts]


@pytest.mark.parametrize(
    ("said", "written", "errors"),
    [("six two two six", "6236", 1), ("six two two six", "626", 1), ("nine four seven", "9 4 7 7", 1), ("oh", "0", 0),
     ("three point five", "3.6", 1), ("twenty one", "31", 1), ("first", "second", 1), ("6,226", "6,227", 1)],
)  # fmt: skip
def test_a_wrong_digit_is_one_error(said: str, written: str, errors: int) -> None:
    one, other = english(said).split(), english(written).split()
    distances = list(range(len(other) + 1))  # Levenshtein, row by row
    for row, word in enumerate(one, 1):
        diagonal, distances[0] = distances[0], row
        for column, its in enumerate(other, 1):
            costs = (diagonal + (word != its), distances[column] + 1, distances[column - 1] + 1)
            diagonal, distances[column] = distances[column], min(costs)
    assert distances[-1] == errors


def test_the_rest_of_english_is_as_whispers_own_rules_have_it() -> None:
    text = "Mr. Brown's dogs won't (laughs) bark; she'd gone"
    assert english(text) == "mister brown is dogs will not bark she had gone"


def test_no_text_breaks_the_english_rules() -> None:
    rng = random.Random(0)
    words = [
        "six",
        "million",
        "point",
        "and a half",
        "$5",
        "¢7",
        "%",
        "1st",
        "007",
        "-3.5",
        ".",
        "9" * 40,
        "é",
        "½",
        "-",
    ]
    texts = [" ".join(rng.choices(words, k=rng.randint(0, 12))) for _ in range(2000)]
    for text in [*texts, "9" * 5000, "1," * 5000, "1." + "3" * 5000, "six " * 2000]:
        assert not set(english_words(text)) & set("!?;:")


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("hi", "हिन्दी, भाषा में।", "हिन्दी भाषा में"),
        ("ta", "தமிழ் மொழி!", "தமிழ் மொழி"),
        ("bn", "বাংলা ভাষা।", "বাংলা ভাষা"),
        ("ml", "മലയാളം.", "മലയാളം"),
        ("th", "ภาษาไทย!", "ภาษาไทย"),
        ("my", "မြန်မာစကား။", "မြန်မာစကား"),
        ("km", "ភាសា\u200bខ្មែរ", "ភាសា ខ្មែរ"),
        ("ar", "كِتَابٌ، مـرحبا", "كتاب مرحبا"),
        ("he", "שָׁלוֹם־עולם", "שלום עולם"),
        ("yi", "אַ מאָל", "אַ מאָל"),
        ("fr", "C’est déjà l'été… 25 ans!", "c est déjà l été 25 ans"),
        ("de", "Straße, GRÖSSE", "straße größe".replace("größe", "grösse")),
        ("tr", "İstanbul'da IŞIK", "istanbul da ışık"),
        ("vi", "Tiếng Việt", "tiếng việt"),
        ("el", "Ὁ ΔΡΌΜΟΣ", "ὁ δρόμος"),
        ("ko", "한국어, 문장", "한국어 문장"),
        ("zh", "我用 iPhone，你好！", "我用 iphone 你好"),
        (None, "İ ❤️ 1️⃣ so\u00adft", "i 1 soft"),
    ],
)
def test_other_languages_keep_letters_with_their_marks(language: str | None, text: str, words: str) -> None:
    assert Normaliser()(text, language) == words


def test_a_wrong_vowel_sign_is_an_error() -> None:
    assert Normaliser()("किताब", "hi") != Normaliser()("कताब", "hi")


@pytest.mark.parametrize("language", ["zh", "zh-CN", "yue", "ja", "Japanese", "th", "lo", "my", "km"])
def test_a_language_without_spaces_is_compared_character_by_character(language: str) -> None:
    assert not has_spaces(language)
    assert Normaliser().units("ab c", language) == "a b c"


@pytest.mark.parametrize("language", ["en", "fr", "ko", "vi", "ar", None, "nobody knows"])
def test_any_other_language_is_compared_word_by_word(language: str | None) -> None:
    assert has_spaces(language)
    assert Normaliser().units("ab c", language) == "ab c"


def test_pairs_without_a_word_in_the_reference_are_left_out() -> None:
    found = normalised(["21 Cats", "x", "21"], ["twenty one cats", "...", "vingt et un"], ["en", "en", "fr"])
    assert found == (["2 one cats", "21"], ["2 one cats", "vingt et un"])


@pytest.mark.parametrize(
    ("choice", "languages", "kinds"),
    [("auto", ["en"], 1), ("auto", ["en", "fr", None], 2), ("auto", ["fr", None], 1), ("basic", ["en", "fr"], 1)],
)
def test_the_name_says_what_was_applied(choice: str, languages: list[str | None], kinds: int) -> None:
    name = Normaliser(choice).name(languages)
    assert name.count("transformers ") == kinds
    assert ("English" in name) == (choice == "auto" and "en" in languages)


@pytest.mark.parametrize("name", ["en", "EN", "en-US", "en_GB", "eng", "English", "english"])
def test_english_has_many_names(name: str) -> None:
    assert language_code(name) == "en"
    assert Normaliser().kind(name) == "english"


@pytest.mark.parametrize("language", [code for code in SENTENCES if code != "en"])
def test_every_language_keeps_its_letters_and_their_marks(language: str) -> None:
    text = SENTENCES[language]
    own = text.replace("I", "ı") if language in ("tr", "az") else text
    lower = unicodedata.normalize("NFKC", own).replace("İ", "i").lower()
    letters = [one for one in lower if unicodedata.category(one)[0] in "LM"]
    normalised_text = Normaliser()(text, language)
    assert [one for one in normalised_text if not one.isspace()] == letters
    for place, letter in enumerate(letters):
        changed = "".join([*letters[:place], *letters[place + 1 :]])
        assert Normaliser().units(changed, language) != Normaliser().units("".join(letters), language), letter


def test_there_is_a_sentence_for_every_language_of_whisper() -> None:
    assert set(SENTENCES) == set(LANGUAGES)


@pytest.mark.parametrize("apostrophe", ["\u02bb", "\u2018", "\u2019", "'", "`"])
def test_an_apostrophe_that_is_a_letter_is_one_however_it_is_typed(apostrophe: str) -> None:
    written = Normaliser()(f"Bog{apostrophe}, o{apostrophe}zbek", "uz")
    assert written == "bog\u02bb o\u02bbzbek"
    assert Normaliser()(f"c{apostrophe}est", "fr") == "c est"
