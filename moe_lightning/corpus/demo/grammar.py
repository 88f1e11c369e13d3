"""Sentences of the demo corpus: a small grammar over about five hundred everyday words.

The grammar is flat on purpose: after any adjective, all nouns are equally likely. So a recogniser cannot guess
the next word from its context and must use the audio.
"""

import random
import re


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",")]


NAMES = _words("""
    alice anna arthur ben bruno carla claire daniel david diana edith elena emma felix frank george grace hannah
    harold helen henry irene isaac jack james julia karen laura leo lucy marcus maria martin nora oliver oscar paula
    peter rachel robert rosa sam sarah simon sophie thomas victor walter
""")
ADJECTIVES = _words("""
    big black blue brave bright broken brown cheap clean clever cold dark deep dirty dry empty famous fast flat
    fresh full gentle golden great green grey happy heavy hot huge kind large little long lost lovely loud low
    narrow new noisy old open orange pale pink purple quick quiet red rich round sharp short silver slow small
    soft square strange strong sweet tall thick thin tiny warm wet white wide wild wooden yellow young
""")
NOUNS = _words("""
    apple bag ball basket bell bicycle bird boat book bottle bowl box bread brush bucket bus button cake camera
    candle car card carpet cat chair cheese clock coat coin computer cup curtain dog door dress drum engine feather
    fish flag flower fork glass glove guitar hammer hat horse jacket kettle key knife ladder lamp leaf letter lion
    map mirror mouse needle newspaper painting paper pencil piano picture pillow plane plate potato rabbit
    radio ring rock rope sandwich scarf sheep shirt shoe spoon stone suitcase table telephone ticket towel toy train
    tree umbrella wagon wallet watch wheel window
""")
PLURALS = _words("""
    apples bags birds boats books bottles boxes buttons cakes candles cars chairs children coins cups dogs doors
    eggs farmers fish flowers girls horses keys lamps letters lions maps nurses pencils plates potatoes rabbits
    rings rocks sailors sheep shoes spoons stones teachers tickets towels trees windows workers
""")
PEOPLE = _words("""
    baker boy brother captain child cousin doctor driver farmer father friend girl guest judge king lady lawyer man
    mother neighbour nurse painter pilot poet queen sailor singer sister soldier student teacher woman
""")
PLACES = _words("""
    airport bakery bank beach bridge castle church city corner desert factory farm field forest garden harbour hill
    hospital hotel house island kitchen lake library market mountain museum office palace park river road school
    shop square station street theatre tower valley village
""")
PAST = _words("""
    bought broke brought carried caught chose cleaned closed counted covered drew dropped fixed followed forgot
    found gave held hid kept left lifted liked lost loved made missed moved needed opened painted picked pulled
    pushed reached remembered saw sent showed sold stole threw took touched wanted washed watched wore
""")
ORDERS = _words("""
    bring buy carry check choose clean close count cover draw drop find fix follow forget hide hold keep leave lift
    move open paint pick pull push remember send show take throw touch wash watch
""")
NUMBERS = _words("""
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety many some
""")
TIMES = _phrases("""
    again, at night, at noon, before breakfast, before dinner, every day, every week, in april, in august,
    in december, in january, in july, in march, in october, in the evening, in the morning, in winter, last friday,
    last month, last summer, last tuesday, next monday, next sunday, next year, on saturday, on thursday,
    on wednesday, this afternoon, this spring, today, tomorrow, yesterday
""")
PREPOSITIONS = _phrases("""
    above, after, behind, beside, beyond, far from, from, in front of, inside, near, next to, outside, under
""")

_SLOTS: dict[str, list[str]] = {
    "name": NAMES,
    "adj": ADJECTIVES,
    "noun": NOUNS,
    "nouns": PLURALS,
    "person": PEOPLE,
    "place": PLACES,
    "past": PAST,
    "order": ORDERS,
    "number": NUMBERS,
    "time": TIMES,
    "prep": PREPOSITIONS,
}
_PATTERNS = (
    "the {adj} {noun} is {prep} the {place}",
    "a {noun} was {prep} the {adj} {noun}",
    "{name} {past} the {adj} {noun} {time}",
    "{name} and {name} {past} {number} {nouns}",
    "my {person} {past} a {adj} {noun}",
    "her {person} {past} the {noun} {prep} the {place}",
    "please {order} the {adj} {noun} {time}",
    "{order} {number} {adj} {nouns} for the {person}",
    "there are {number} {adj} {nouns} in the {place}",
    "we {past} {number} {nouns} {prep} the {place}",
    "they {past} his {adj} {noun} {time}",
    "where did the {person} see the {adj} {noun}",
    "do you have {number} {adj} {nouns}",
    "can {name} {order} the {noun} {time}",
    "the {person} and the {person} {past} a {noun}",
    "i {past} {name} {prep} the {place} {time}",
    "it is a {adj} {noun} with {number} {nouns}",
    "why is the {noun} so {adj} {time}",
    "every {adj} {person} {past} the {noun}",
    "{name} will {order} our {adj} {nouns} {time}",
)


def random_sentence(rng: random.Random) -> str:
    """One sentence of four to eleven words, lower case, without punctuation."""
    sentence = rng.choice(_PATTERNS)
    for slot, fillers in _SLOTS.items():
        while f"{{{slot}}}" in sentence:
            sentence = sentence.replace(f"{{{slot}}}", rng.choice(fillers), 1)
    return re.sub(r"\ba (?=[aeio]|um)", "an ", sentence)


def vocabulary() -> list[str]:
    """All words in the grammar, sorted."""
    fillers = [filler for slot in _SLOTS.values() for filler in slot]
    fixed = [word for pattern in _PATTERNS for word in pattern.split() if not word.startswith("{")]
    return sorted({word for filler in fillers for word in filler.split()} | set(fixed) | {"an"})
