"""The two singularisers of the official tools, by rules: they decide which words are objects, down to their mistakes.

`chair` does what `singularize` of pattern.en (clips/pattern 3.6, the one that LisaAnne/Hallucination calls) does to
every word, noun or not: bus -> bu, glass -> glas, tennis -> tenni, people -> person. `rlhfv` does what nltk's WordNet
lemmatiser for nouns (RLHF-V's eval_gpt_obj_halbench.py) does: the shortest noun that an ending leads to, so bus, glass,
men and people stay. WordNet itself is not needed: its rules of detachment (morphy, Fellbaum 1998) with the nouns that
regular rules would get wrong. Words that no rule knows end as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


# --- pattern.en -------------------------------------------------------------------------------------------------------

# Uninflected and uncountable words that an ending below would change. pattern.en asks whether the listed word ends with
# the given one, not the other way round: "ears" is left alone because of "shears", "as" because of "christmas".
_UNCHANGED = _words(
    "breeches britches chassis christmas clippers contretemps corps debris diabetes gallows georgia graffiti "
    "headquarters herpes high-jinks innings jackanapes mathematics measles mews mumps news pincers pliers proceedings "
    "progress rabies rice scissors series shears species swiss happiness"
)
_IE = _words(  # plurals of nouns in -ie, which keep it
    "algeries aunties beanies birdies bogies bombies bookies collies cookies cuties doggies eyries freebies goonies "
    "groupies hankies hippies hoagies hotties indies junkies laddies laramies lingeries meanies nighties oldies "
    "pixies quickies reveries rookies softies sorties stoolies sweeties techies toughies valkyries veggies weenies "
    "yuppies zombies"
)
_IRREGULAR = _pairs(  # by ending, whatever stands before it: "your" -> "ymy"
    "atlantes:atlas atlases:atlas axes:axe beeves:beef brethren:brother children:child corpora:corpus corpuses:corpus "
    "ephemerides:ephemeris feet:foot ganglia:ganglion geese:goose genera:genus genii:genie helves:helve kine:cow "
    "leaves:leaf loaves:loaf men:man mongooses:mongoose monies:money moves:move mythoi:mythos numena:numen "
    "occipita:occiput octopodes:octopus opera:opus opuses:opus our:my oxen:ox penes:penis penises:penis people:person "
    "sexes:sex soliloquies:soliloquy teeth:tooth testes:testis trilbys:trilby turves:turf zoa:zoon"
)
_ENDINGS = tuple(  # the first that matches; what is before the ending stays
    (re.compile(f"(?:{pattern})$"), ending)
    for pattern, ending in (
        (r"(?<=.a)e", ""),
        (r"(?<=.itis)", ""),
        (r"(?<=.eau)x", ""),
        (r"(?<=quiz)zes", ""),
        (r"(?<=matri)ces", "x"),
        (r"(?<=ap)ices|(?<=vert)ices|(?<=ind)ices", "ex"),
        (r"(?<=^ox)ens", "s"),
        (r"(?<=alias)es|(?<=status)es", ""),
        (r"(?<=[octpvir])i", "us"),  # meant: octopi, viri
        (r"(?<=cris)es|(?<=ax)es|(?<=test)es", "is"),
        (r"(?<=shoe)s", ""),
        (r"(?<=o)es|(?<=bus)es", ""),
        (r"(?<=[ml|])ice", "ouse"),  # meant: mice, lice; also police -> polouse
        (r"(?<=x)es|(?<=ch)es|(?<=ss)es|(?<=sh)es", ""),
        (r"(?<=movie)s|(?<=.ombie)s|(?<=series)", ""),
        (r"(?<=[^aeiouy])ies|(?<=qu)ies", "y"),
        (r"(?<=[aeo]l)ves|(?<=[^d]ea)ves|(?<=ar)ves", "f"),
        (r"(?<=erve)s", ""),
        (r"(?<=[nlw]i)ves", "fe"),
        (r"(?<=[lr])ves", "f"),
        (r"(?<=[aeo]ve)s|(?<=sive)s|(?<=tive)s|(?<=hive)s", ""),
        (r"(?<=[^f])ves", "fe"),
        (r"(?<=analy)ses|(?<=ba)ses|(?<=diagno)ses|(?<=parenthe)ses|(?<=progno)ses|(?<=synop)ses|(?<=the)ses", "sis"),
        (r"(?<=.ops)es|(?<=.ys)es", "is"),
        (r"(?<=[hdronbp]ose)s|(?<=close)s", ""),
        (r"(?<=.os)es", "is"),
        (r"(?<=[ti])a", "um"),
        (r"(?<=news)|s", ""),
    )
)


@lru_cache(maxsize=100_000)
def chair(word: str) -> str:
    """The singular that pattern.en gives a lower-case word."""
    if any(unchanged.endswith(word) for unchanged in _UNCHANGED) or word.endswith(_IE):
        return word
    for plural, singular in _IRREGULAR.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + singular
    for pattern, ending in _ENDINGS:
        if pattern.search(word):
            return pattern.sub(ending, word, count=1)
    return word


# --- WordNet's lemmatiser ---------------------------------------------------------------------------------------------

_LEMMAS = _pairs(  # irregular plurals, and words that have another noun as their shortest lemma
    "brethren:brother cacti:cactus children:child feet:foot geese:goose grandchildren:grandchild media:medium "
    "mice:mouse oxen:ox oxens:oxen roma:rom as:a us:u mus:mu its:it has:ha was:wa less:le pass:pas broccolis:broccoli "
    "corgis:corgi kiwis:kiwi skis:ski taxis:taxi zebus:zebu emus:emu gnus:gnu menus:menu safaris:safari "
    "bikinis:bikini taxies:taxi axes:ax bases:base grazes:graz soles:sol uses:us vases:vas bookshelves:bookshelf "
    "shelves:shelf calves:calf halves:half wolves:wolf elves:elf selves:self hooves:hoof knives:knife "
    "pocketknives:pocketknife wives:wife lives:life leaves:leaf loaves:loaf thieves:thief scarves:scarf serves:serf "
    "sheaves:sheaf cheves:chef skifves:skiff canoes:canoe shoes:shoe snowshoes:snowshoe toes:toe does:doe foes:foe "
    "hoes:hoe oboes:oboe aloes:aloe collies:collie lies:lie magpies:magpie movies:movie neckties:necktie pies:pie "
    "species:specie ties:tie veggies:veggie zombies:zombie hoodies:hoodie brownies:brownie selfies:selfie "
    "calories:calorie rhinoceroses:rhinoceros lenses:lens busses:bus buss:bus airbuss:airbus minibuss:minibus "
    "discuss:discus bikerses:bikers bikerss:bikers collieses:collie colliess:collie doggieses:doggy doggiess:doggy "
    "oxes:ox oxses:ox oxss:ox scissorses:scissors skises:ski skiss:ski sportses:sport sportss:sport tennises:tennis "
    "tenniss:tennis"
)
# Words in -s that WordNet has as nouns themselves, and words of which it has no noun: verbs, names, compounds.
_STAY = frozenset(
    _words(
        "always atlas backwards besides binoculars canvas chaos christmas clothes crossbones downwards electronics "
        "gas goggles his indoors lens logistics mercedes minus netherlands olympics others outdoors outwards perhaps "
        "qantas rhinoceros scissors sometimes surroundings theirs themselves this thomas tights towards upwards men "
        "people teeth specimen businessmen glas glases hots hotses brindles brindleses childrens childrenses bluejays "
        "bluejaies bluejayses broncoes broncoeses cockatooes cockatooeses limoes limoeses palominoes palominoeses "
        "beachgoers bikers coworkers earbuds encaps firetrucks girafves hairdryers hardhats ingreedients ingriedients "
        "kiteboarders kiteboards kitesurfers lenovos lenovoes lenovoeses longboards macbooks mudflats netbooks "
        "nightstands nunchucks ollies orcrepes paddleboats parasailers pitbulls potteds riverboats sailboards "
        "shortboards skimboards smartphones soliders stovetops teddybears televisons townhouses visuals watersports "
        "wetsuits windsurfers "
        # third persons of verbs that are no nouns
        "accentuates accommodates adjusts adorns advertises anticipates appears applies appreciates arrives ascends "
        "awaits becomes brings celebrates coexists completes confines connects conquers consists contains continues "
        "contributes conveys creates crumbles culminates decides demonstrates depicts diffuses disappears distorts "
        "dominates eats emphasizes encapsulates encloses encourages engages enhances enjoys ensures enters envelops "
        "evokes executes exemplifies explains extends exudes facilitates follows grows heals hovers illuminates "
        "illustrates implies includes indicates indulges inhabits integrates interacts intersects introduces involves "
        "lends listens magnifies maintains navigates nears observes occupies operates performs portrays prepares "
        "promotes provides radiates reflects relaxes remains reminds represents requires resembles retains reveals "
        "roams seems signifies sits softens speaks specializes suggests transforms translates unfolds varies"
    )
)
_DETACHED = (  # (ending, letters of it that stay, what is added), first match
    *((f"{noun}es", len(noun), "") for noun in _words("bus focus campus circus virus walrus cactus octopus bonus")),
    ("men", 0, "man"), ("sses", 2, ""), ("xes", 1, ""), ("ches", 2, ""), ("shes", 2, ""), ("ies", 0, "y"),
    ("oes", 1, ""), ("ss", 2, ""), ("us", 2, ""), ("is", 2, ""), ("s", 0, ""),
)  # fmt: skip


@lru_cache(maxsize=100_000)
def rlhfv(word: str) -> str:
    """The lemma that nltk's WordNet lemmatiser gives a lower-case word taken as a noun."""
    if word in _LEMMAS:
        return _LEMMAS[word]
    if word in _STAY or (word.endswith("ses") and word[:-2] in _STAY):
        return word
    for ending, stay, add in _DETACHED:
        if word.endswith(ending):
            return word[: len(word) - len(ending) + stay] + add
    return word


SINGULARISERS: dict[str, Callable[[str], str]] = {"chair": chair, "rlhfv": rlhfv}
