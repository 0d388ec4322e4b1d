"""Words that the tokenizer treats one by one, found by asking the Java program about 763,000 words in several cases."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TITLES = _words(
    "adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov govs "
    "hon insp invt jos lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof pvt rep reps rev sen sens "
    "sfc sgt spc st ste supt vs wm attys comdr lieut"
)
"""They keep their full stop, whatever follows."""

CLOSERS = _words(
    "al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla "
    "fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn "
    "plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo"
)
"""They keep their full stop, even where one more letter or digit follows it at once."""

CAPITALISED_CLOSERS = _words("ark az del ill la mass miss ore pa tex wash")
"""Closers only where they begin with a capital letter."""

BEFORE_NUMBERS = _words("art ca fig figs no nos op pp prop")
"""They keep their full stop before a number only."""

SENTENCE_STARTERS = _words(
    "a about according additionally after an as at but earlier he her here however if in it last many more now "
    "once one other our she since so some such that the their then there these they this we what when while yet "
    "you"
)
"""After a single letter and a full stop, one of these (capitalised) makes the full stop end a sentence."""

SPLIT_WORDS = (("can", "not"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("gim", "me"), ("wan", "na"))

FILE_ENDINGS = _words(
    "bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps "
    "py sql tar txt wav x xml zip"
)

OTHER_ABBREVIATIONS = _words("mfg mtg ppte ppty pte pty ptes ptys")
"""Abbreviations with rules of their own about capitals."""
