"""MMLU with 5 shots, options as letters and as full text: the harness against lm-eval's HF model on one checkpoint.

    python benchmarks/mmlu.py --data DIR --options letters|texts [--pairs N] [--batch N] [--shape NAME] [--ours]
    python benchmarks/mmlu.py --quick [--options letters|texts]

10 subjects and 20 questions of each, drawn with a fixed seed (of the subjects whose test file is in the folder: they
share nothing with one another, so fewer change little), a LLaMA of 35 M parameters with random weights - what is
shared does not depend on its size - and 32,000 entries of a byte-level BPE, float32, one thread a side, sides in
processes of their own and in turn. lm-eval itself goes through a question once for its four letters, so that letters
gain by the shared header only. `--quick` asks invented questions of a tiny model and has our slow twin for a peer.
Ends with one line of JSON.
"""

from __future__ import annotations

import random

from lib import peers, text_bench

SUBJECTS, QUESTIONS, SEED = 10, 20, 0


def real(folder: str, full: bool) -> dict[str, peers.Requests]:
    """The requests of each subject; in full, options are the four answers' texts."""
    from mmalign_eval.data.source import DataChoice
    from mmalign_eval.plan import open_task, plan_task

    plan = plan_task(open_task("mmlu", protocol="official"), DataChoice.parse((folder,), only_mini=False), None, 0)
    found: dict[str, peers.Requests] = {}
    for sample, requests in zip(plan.samples, plan.requests, strict=True):
        for context, options in text_bench.requests_of(requests):
            texts = [f" {choice}" for choice in sample.data["doc"]["choices"]] if full else options
            found.setdefault(sample.part, []).append((context, texts))
    return found


def drawn(subjects: dict[str, peers.Requests]) -> peers.Requests:
    """A part of it, by a fixed seed."""
    numbers = random.Random(SEED)
    chosen = numbers.sample(sorted(subjects), min(SUBJECTS, len(subjects)))
    return [asked for name in chosen for asked in numbers.sample(subjects[name], min(QUESTIONS, len(subjects[name])))]


def quick(full: bool) -> peers.Requests:
    """Invented questions of two subjects."""
    texts = [" a red cup that nobody runs over", " three green hills", " the dog and it is red", " three red dogs"]
    return text_bench.invented(5, 2, 6, lambda number: texts if full else [" A", " B", " C", " D"])


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = text_bench.parser(__doc__.split("\n")[0])
    parser.add_argument("--options", choices=("letters", "texts"), default="texts")
    options = parser.parse_args()
    if not (options.quick or options.data):
        parser.error("--data: the folder that holds MMLU's files (or mmlu/ with them), or --quick")
    options.shape = options.shape or ("nano" if options.quick else "35m")
    full = options.options == "texts"
    if options.quick:
        asked = corpus = quick(full)
    else:
        subjects = real(str(options.data), full)
        asked, corpus = drawn(subjects), [request for requests in subjects.values() for request in requests]
    text_bench.show(text_bench.run(f"mmlu_{options.options}", options, asked, corpus, part=8))


if __name__ == "__main__":
    main()
