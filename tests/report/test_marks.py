"""Which words of an answer are marked."""

from __future__ import annotations

import pytest

from mmalign_eval.report.marks import marked


def record(hallucinated: list[str], mentions: list[str] | None = None) -> dict[str, object]:
    return {"hallucinated": hallucinated, "mentions": [[m, m] for m in mentions or hallucinated]}


@pytest.mark.parametrize(
    ("text", "hallucinated", "mentions", "expected"),
    [
        ("A dog and a cat.", ["dog"], ["dog", "cat"], ["dog"]),
        ("Dogs, DOGS and hotdogs.", ["dog"], ["dog"], ["Dogs", "DOGS"]),
        ("a dog with a hot dog", ["dog"], ["dog", "hot dog"], ["dog"]),
        ("a dog with two hot dogs", ["hot dog"], ["dog", "hot dog"], ["hot dogs"]),
        ("buses, people and knives", ["bus", "person", "knife"], None, ["buses", "people", "knives"]),
        ("a traffic\n light", ["traffic light"], None, ["traffic\n light"]),
        ("a T-shirt on a dog", ["t-shirt"], ["t-shirt", "dog"], ["T-shirt"]),
        ("no dogma here", ["dog"], None, []),
        ("", ["dog"], None, []),
    ],
)
def test_hallucinated_words(
    text: str, hallucinated: list[str], mentions: list[str] | None, expected: list[str]
) -> None:
    pieces = marked(text, record(hallucinated, mentions))
    assert "".join(pieces) == text
    assert pieces[1::2] == expected


@pytest.mark.parametrize("other", [None, {}, {"hallucinated": 3}, {"hallucinated": [3, None, ""]}, {"mentions": "dog"}])
def test_records_of_other_tasks_mark_nothing(other: dict[str, object] | None) -> None:
    assert marked("a dog", other) == ["a dog"]
