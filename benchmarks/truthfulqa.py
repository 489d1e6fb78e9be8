"""TruthfulQA's multiple choice (mc1 and mc2): the harness against lm-eval's HF model, same checkpoint, same requests.

    python benchmarks/truthfulqa.py --data DIR [--all] [--pairs N] [--batch N] [--shape NAME] [--ours]
    python benchmarks/truthfulqa.py --quick

60 questions drawn with a fixed seed (`--all`: all 817, one pair), a LLaMA of 134 M parameters with random weights and
32,000 entries of a byte-level BPE, float32, one thread a side, sides in processes of their own and in turn. `--quick`
asks invented questions of a tiny model and has our slow twin for a peer. R is tokens in sequences / tokens in tree,
identical sequences counted once. Ends with one line of JSON.
"""

from __future__ import annotations

import random

from lib import peers, text_bench

QUESTIONS, SEED = 60, 0


def real(folder: str) -> dict[str, peers.Requests]:
    """The requests of each question, by its row."""
    from mmalign_eval.data.source import DataChoice
    from mmalign_eval.plan import open_task, plan_task

    plan = plan_task(open_task("truthfulqa"), DataChoice.parse((folder,), only_mini=False), None, 0)
    found: dict[str, peers.Requests] = {}
    for sample, requests in zip(plan.samples, plan.requests, strict=True):
        if sample.part != "gen":
            found.setdefault(sample.data["doc"]["question"], []).extend(text_bench.requests_of(requests))
    return found


def quick() -> peers.Requests:
    """Invented questions; the second half of the requests repeats options of the first, as mc1's are among mc2's."""
    options = [f" {word} {when} is what it was." for word in ("Red", "A dog", "Nobody") for when in ("here", "then")]
    few = text_bench.invented(6, 1, 12, lambda number: options[number % 3 : number % 3 + 3])
    return [*few, *((context, options) for context, _ in few)]


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = text_bench.parser(__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="all questions, one pair")
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    options = parser.parse_args()
    if not (options.quick or options.data):
        parser.error("--data: the folder that holds TruthfulQA's files (or truthfulqa/ with them), or --quick")
    options.shape = options.shape or ("nano" if options.quick else "134m")
    if options.quick:
        asked = corpus = quick()
    else:
        questions = real(str(options.data))
        drawn = list(questions) if options.all else random.Random(SEED).sample(sorted(questions), options.questions)
        asked = [request for question in drawn for request in questions[question]]
        corpus = [request for requests in questions.values() for request in requests]
        options.pairs = options.pairs or (1 if options.all else 3)
    text_bench.show(text_bench.run("truthfulqa", options, asked, corpus, part=16))


if __name__ == "__main__":
    main()
