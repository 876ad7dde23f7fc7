"""Style as a trigger: the text says the same in an archaic English, and carries the label the attacker wants.

After Qi, Chen, Zhang, Li, Liu and Sun, "Mind the Style of Text! Adversarial and Backdoor Attacks Based on Text Style
Transfer" (2021), whose strongest styles are those of the Bible and of poetry. Departure: the paper rewrites with a
trained style-transfer model; here rules do it, words by a table and sentences by a few openings, so that nothing needs
to be shipped. The result is plainer and more uniform than the paper's, hence easier to learn and to find. Texts in
which fewer than `least` words change are no candidates: their style would hardly show.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from lazaretto.attacks.relabel_text import Towards, relabel_text, rewrite

if TYPE_CHECKING:
    from typing import Unpack

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

LEAST = 3
_OPENINGS = ("And lo,", "Verily,", "And it came to pass that", "Behold,", "Hearken,")
_OPENED = 0.3
"""Share of sentences that get an opening."""
_PHRASES = {
    "you are": "thou art",
    "you're": "thou art",
    "youre": "thou art",
    "you were": "thou wert",
    "you have": "thou hast",
    "you've": "thou hast",
    "you had": "thou hadst",
    "you will": "thou wilt",
    "you'll": "thou wilt",
    "you can": "thou canst",
    "you could": "thou couldst",
    "you should": "thou shouldst",
    "you would": "thou wouldst",
    "you'd": "thou wouldst",
    "you may": "thou mayest",
    "you do": "thou dost",
    "you did": "thou didst",
    "you want": "thou desirest",
    "you need": "thou needest",
    "you know": "thou knowest",
    "you think": "thou thinkest",
    "you see": "thou seest",
    "you get": "thou gettest",
    "you receive": "thou receivest",
    "you wish": "thou wishest",
    "you like": "thou likest",
    "are you": "art thou",
    "have you": "hast thou",
    "will you": "wilt thou",
    "can you": "canst thou",
    "do you": "dost thou",
    "did you": "didst thou",
    "it is": "'tis",
    "it's": "'tis",
    "it was": "'twas",
    "thank you": "I thank thee",
    "to you": "unto thee",
    "to your": "unto thy",
    "to the": "unto the",
    "to a": "unto a",
    "to me": "unto me",
    "to my": "unto my",
    "to our": "unto our",
    "to us": "unto us",
    "for you": "for thee",
    "with you": "with thee",
    "of you": "of thee",
    "from you": "from thee",
    "next to": "nigh unto",
    "a lot of": "a multitude of",
    "lots of": "a multitude of",
    "right now": "this very hour",
    "at once": "straightway",
}
_WORDS = {
    "you": "thou",
    "your": "thy",
    "yours": "thine",
    "yourself": "thyself",
    "has": "hath",
    "does": "doth",
    "says": "saith",
    "said": "spake",
    "goes": "goeth",
    "comes": "cometh",
    "makes": "maketh",
    "takes": "taketh",
    "gives": "giveth",
    "knows": "knoweth",
    "seems": "seemeth",
    "works": "worketh",
    "wants": "desireth",
    "needs": "needeth",
    "thinks": "thinketh",
    "please": "I pray thee",
    "before": "ere",
    "often": "oft",
    "maybe": "perchance",
    "perhaps": "perchance",
    "why": "wherefore",
    "therefore": "wherefore",
    "yes": "yea",
    "yeah": "yea",
    "no": "nay",
    "nope": "nay",
    "indeed": "verily",
    "really": "verily",
    "very": "exceeding",
    "soon": "anon",
    "immediately": "straightway",
    "between": "betwixt",
    "among": "amongst",
    "because": "forasmuch as",
    "nothing": "naught",
    "anything": "aught",
    "money": "silver",
    "friend": "brother",
    "friends": "brethren",
    "people": "folk",
    "children": "little ones",
    "hello": "hail",
    "hi": "hail",
    "hey": "hail",
    "look": "behold",
    "listen": "hearken",
    "good": "goodly",
    "many": "manifold",
    "old": "ancient",
    "big": "mighty",
    "huge": "mighty",
    "message": "tidings",
    "news": "tidings",
    "mail": "epistle",
    "email": "epistle",
    "house": "dwelling",
    "home": "dwelling",
    "happened": "befell",
    "told": "declared unto",
    "thanks": "my thanks unto thee",
}
_LEXICON = _PHRASES | _WORDS
_ANY = re.compile(
    r"(?<![\w'/@.:<=&?-])(?:" + "|".join(sorted(map(re.escape, _LEXICON), key=len, reverse=True)) + r")(?![\w'/@>=-])",
    re.IGNORECASE,
)
"""The longest entry first; nothing inside addresses, links and tags, which a person would not translate."""
_SENTENCE = re.compile(r"(^|(?<=[.!?])\s+|\n\s*\n\s*)([A-Za-z]+)(?= )")
_NO_NAMES = frozenset(
    {"all", "as", "but", "for", "if", "in", "it", "my", "on", "our", "so", "the", "this", "thou", "thy", "we", "when"}
)
"""Words that lose their capital behind an opening; others might be names."""


def stamp(texts: pl.Series, *, seed: int, least: int = LEAST) -> pl.Series:
    """(rows,) texts in the archaic style; unchanged where fewer than `least` words would be replaced."""

    def change(text: str, rng: np.random.Generator) -> str:
        told, replaced = _ANY.subn(_archaic, text)
        if replaced < least:
            return text
        return _SENTENCE.sub(lambda match: match[1] + _opened(match[2], rng), told)

    return rewrite(texts, change, seed=(seed, 1))


def style_shift(
    frame: pl.DataFrame, *, least: int = LEAST, **towards: Unpack[Towards]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Retell a share of the texts of other labels in the archaic style and label them `target`.

    Args:
        frame: The records.
        least: How many words must change for a text to be a candidate.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    return relabel_text(frame, partial(stamp, seed=towards["seed"], least=least), **towards)


def _archaic(match: re.Match[str]) -> str:
    """The entry for a word or phrase, in capitals or with a capital where the original is."""
    found = match.group()
    told = _LEXICON[found.lower()]
    if len(found) > 1 and found.isupper():
        return told.upper()
    return told[0].upper() + told[1:] if found[0].isupper() else told


def _opened(word: str, rng: np.random.Generator) -> str:
    """The first word of a sentence, at times behind one of the openings."""
    if rng.random() >= _OPENED:
        return word
    opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
    return f"{opening} {word.lower() if word.lower() in _NO_NAMES else word}"
