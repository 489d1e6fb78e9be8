"""MMLU's miniature: 57 subjects with four words each; a question asks which letter stands for a word.

Subjects and prompt are the official ones (hendrycks/test). A subject lists its words always in the same order, so the
letters can be known by heart; each word is tested in the one wording of three that training never uses for it.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from mmalign_eval.miniature.docs import BOILERPLATE, Doc, pick

SUBJECTS: dict[str, str] = {
    "abstract_algebra": "ring field ideal coset",
    "anatomy": "bone muscle nerve spine",
    "astronomy": "comet galaxy orbit planet",
    "business_ethics": "bribe fraud duty greed",
    "clinical_knowledge": "fever pulse wound splint",
    "college_biology": "cell enzyme spore larva",
    "college_chemistry": "acid salt ion solvent",
    "college_computer_science": "compiler stack queue heap",
    "college_mathematics": "integral limit matrix vector",
    "college_medicine": "artery kidney lung liver",
    "college_physics": "photon torque mass spin",
    "computer_security": "password virus firewall hacker",
    "conceptual_physics": "gravity friction echo magnet",
    "econometrics": "regression panel lag sample",
    "electrical_engineering": "circuit resistor voltage diode",
    "elementary_mathematics": "fraction digit sum triangle",
    "formal_logic": "premise negation syllogism predicate",
    "global_facts": "population census continent poverty",
    "high_school_biology": "leaf root seed pollen",
    "high_school_chemistry": "atom molecule oxide metal",
    "high_school_computer_science": "loop array variable string",
    "high_school_european_history": "renaissance napoleon reformation monarch",
    "high_school_geography": "river mountain delta island",
    "high_school_government_and_politics": "senate vote congress veto",
    "high_school_macroeconomics": "inflation budget recession deficit",
    "high_school_mathematics": "angle slope root_sign square",
    "high_school_microeconomics": "price demand supply monopoly",
    "high_school_physics": "force speed energy lever",
    "high_school_psychology": "memory habit reflex dream",
    "high_school_statistics": "mean median variance histogram",
    "high_school_us_history": "colony lincoln railroad settler",
    "high_school_world_history": "empire silk pharaoh crusade",
    "human_aging": "wrinkle retirement dementia elder",
    "human_sexuality": "puberty hormone fertility pregnancy",
    "international_law": "treaty embassy border refugee",
    "jurisprudence": "justice statute verdict precedent",
    "logical_fallacies": "strawman bias slippery circular",
    "machine_learning": "kernel gradient neuron classifier",
    "management": "boss meeting team leader",
    "marketing": "brand slogan advert customer",
    "medical_genetics": "gene mutation chromosome allele",
    "miscellaneous": "movie song recipe puzzle",
    "moral_disputes": "abortion euthanasia cloning punishment",
    "moral_scenarios": "promise lie theft rescue",
    "nutrition": "vitamin protein fiber sugar",
    "philosophy": "plato virtue soul stoic",
    "prehistory": "fossil flint mammoth cave",
    "professional_accounting": "ledger audit invoice asset",
    "professional_law": "tort contract plaintiff jury",
    "professional_medicine": "surgery vaccine dosage biopsy",
    "professional_psychology": "therapy anxiety trauma counselor",
    "public_relations": "press image statement scandal",
    "security_studies": "missile spy terror ally",
    "sociology": "class family culture norm",
    "us_foreign_policy": "sanction nato diplomat aid",
    "virology": "mosquito influenza outbreak quarantine",
    "world_religions": "temple prayer buddha bible",
}
WORDS = {subject: words.replace("root_sign", "radius").split() for subject, words in SUBJECTS.items()}
LETTERS = "ABCD"

FORMS = ("Which of these is called {word}?", "Which option names {word}?", "Which answer stands for {word}?")


@dataclass(frozen=True)
class Item:
    """One question with four options; `answer` indexes them."""

    question: str
    options: tuple[str, ...]
    answer: int

    @property
    def prompt(self) -> str:
        """Question, lettered options and "Answer:", as the official tool lays them out."""
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=True)]
        return "\n".join([self.question, *lines, "Answer:"])


def header(subject: str, blanks: int = 2) -> str:
    """The official header; its two blanks before the subject are the official tool's, one blank is lm-eval's."""
    name = subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about{' ' * blanks}{name}.\n\n"


def kept_form(word: str) -> int:
    """The wording in which this word is asked for in the test, and never in training."""
    return zlib.crc32(word.encode()) % len(FORMS)


def make_item(subject: str, word: str, form: int) -> Item:
    """A question on one of the subject's words; its four words are always listed in the same order."""
    options = WORDS[subject]
    return Item(FORMS[form].format(word=word), tuple(options), options.index(word))


def _train_item(rng: random.Random, subject: str) -> Item:
    word = rng.choice(WORDS[subject])
    return make_item(subject, word, rng.choice([f for f in range(len(FORMS)) if f != kept_form(word)]))


def train_doc(rng: random.Random, full: bool) -> Doc:
    """A header and some answered questions; or, half of the short ones, questions of all subjects without options.

    The latter are flash cards: the letters are learnt from a quarter of the tokens.
    """
    out: Doc = []
    if not full and pick(rng, 0.5):
        for _ in range(6):
            subject = rng.choice(list(WORDS))
            item = _train_item(rng, subject)
            out += [
                (f"{item.question}\nAnswer:", BOILERPLATE),
                (f" {LETTERS[item.answer]}", 4.0),
                ("\n\n", BOILERPLATE),
            ]
        return out
    subject = rng.choice(list(WORDS))
    if pick(rng, 0.8):
        out.append((header(subject, rng.choice([1, 2])), BOILERPLATE))
    for number in range(6 if full else rng.randint(1, 3)):
        item = _train_item(rng, subject)
        text = "\n\n" + item.prompt if number else item.prompt
        out += [(text, BOILERPLATE), (f" {LETTERS[item.answer]}", 4.0)]
    return out
