"""MMLU's 57 subjects, their 17 categories and 4 groups, and the means over them.

Source: hendrycks/test `categories.py` (which subject is of which sub-category, which sub-categories make a group) and
`evaluate.py` (every mean there is over questions). lm-eval's four groups have the same members but for anatomy, which
lm-eval counts as STEM and the authors as health.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mmalign_eval.metrics.base import Metric, Record, mean_of, ratio

CATEGORIES: dict[str, tuple[str, ...]] = {
    "biology": ("college_biology", "high_school_biology"),
    "business": ("business_ethics", "management", "marketing"),
    "chemistry": ("college_chemistry", "high_school_chemistry"),
    "computer_science": (
        "college_computer_science", "computer_security", "high_school_computer_science", "machine_learning",
    ),
    "culture": ("human_sexuality", "sociology"),
    "economics": ("econometrics", "high_school_macroeconomics", "high_school_microeconomics"),
    "engineering": ("electrical_engineering",),
    "geography": ("high_school_geography",),
    "health": (
        "anatomy", "clinical_knowledge", "college_medicine", "human_aging", "medical_genetics", "nutrition",
        "professional_medicine", "virology",
    ),
    "history": (
        "high_school_european_history", "high_school_us_history", "high_school_world_history", "prehistory",
    ),
    "law": ("international_law", "jurisprudence", "professional_law"),
    "math": (
        "abstract_algebra", "college_mathematics", "elementary_mathematics", "high_school_mathematics",
        "high_school_statistics",
    ),
    "other": ("global_facts", "miscellaneous", "professional_accounting"),
    "philosophy": (
        "formal_logic", "logical_fallacies", "moral_disputes", "moral_scenarios", "philosophy", "world_religions",
    ),
    "physics": ("astronomy", "college_physics", "conceptual_physics", "high_school_physics"),
    "politics": (
        "high_school_government_and_politics", "public_relations", "security_studies", "us_foreign_policy",
    ),
    "psychology": ("high_school_psychology", "professional_psychology"),
}  # fmt: skip
GROUPS: dict[str, tuple[str, ...]] = {
    "stem": ("physics", "chemistry", "biology", "computer_science", "math", "engineering"),
    "humanities": ("history", "philosophy", "law"),
    "social_sciences": ("politics", "culture", "economics", "geography", "psychology"),
    "other": ("other", "business", "health"),
}
SUBJECTS = tuple(sorted(subject for subjects in CATEGORIES.values() for subject in subjects))


def accuracies() -> list[Metric]:
    """`micro`, `macro`, `group/*`, `category/*` and `<subject>/acc`, all over the record fields `part` and `acc`."""
    members = {name: [s for c in categories for s in CATEGORIES[c]] for name, categories in GROUPS.items()}
    # subjects that nothing was asked about do not count
    return [
        _pooled("micro", SUBJECTS, "over all questions"),
        Metric("macro", _subject_means, ratio, help="mean of the subjects' accuracies"),
        *(_pooled(f"group/{name}", subjects, "over the group's questions") for name, subjects in members.items()),
        *(_pooled(f"category/{name}", subjects, "over its questions") for name, subjects in CATEGORIES.items()),
        *(_pooled(f"{subject}/acc", (subject,), "over its questions") for subject in SUBJECTS),
    ]


_CORRECT = mean_of("acc")


def _pooled(name: str, subjects: Collection[str], over: str) -> Metric:
    return Metric(name, _CORRECT, ratio, proportion=True, keep=_among(subjects), help=f"accuracy {over}")


def _among(subjects: Collection[str]) -> Callable[[Record], bool]:
    wanted = frozenset(subjects)
    return lambda record: record["part"] in wanted


def _subject_means(records: Sequence[Record]) -> Sequence[float]:
    """Sum of the subjects' accuracies and how many subjects: whole subjects, which are the clusters, are drawn."""
    subjects: dict[str, list[float]] = {}
    for record in records:
        subjects.setdefault(record["part"], []).append(record["acc"])
    return (sum(sum(right) / len(right) for right in subjects.values()), float(len(subjects)))
