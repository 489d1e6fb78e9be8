"""The other image benchmarks' files: VQAv2, MME, Flickr30k, MM-Vet, LLaVA-Bench and Object HalBench."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from mmalign_eval.miniature.captions import DETAIL_PROMPTS, YES_NO, detailed, open_question, yes_no
from mmalign_eval.miniature.files_coco import (
    TRAINING_ROWS,
    coco_scenes,
    held_out_scenes,
    karpathy_rows,
    references,
    save_image,
    write_coco,
    write_pope,
)
from mmalign_eval.miniature.files_text import write_json, write_jsonl
from mmalign_eval.miniature.world import COLORS, PLACES, SCENES, Scene, make_scene

# What each of MME's fourteen subtasks asks here. Only the first four and "scene" are about what their names say; the
# world has no films, faces, landmarks or writing, so the others carry questions that it can answer.
MME_KINDS = {
    "existence": "exist", "count": "count", "position": "side", "color": "color", "scene": "scene",
    "posters": "exist", "celebrity": "color", "landmark": "scene", "artwork": "scene", "OCR": "color",
    "commonsense_reasoning": "side", "numerical_calculation": "count", "text_translation": "exist",
    "code_reasoning": "count",
}  # fmt: skip
MME_IMAGES = 6


def write_mme(folder: Path) -> None:
    """`<subtask>/images/*.jpg` and `<subtask>/questions_answers_YN/*.txt`: two tab-separated lines, yes and no."""
    for number, (subtask, kind) in enumerate(MME_KINDS.items()):
        rng = random.Random(f"mme {subtask}")
        for n, scene in enumerate(held_out_scenes(10_000 + 100 * number, MME_IMAGES), start=1):
            save_image(scene, folder / subtask / "images" / f"{n:04d}.jpg")
            lines = [f"{yes_no(rng, scene, kind, yes)}{YES_NO}\t{'Yes' if yes else 'No'}\n" for yes in (True, False)]
            path = folder / subtask / "questions_answers_YN" / f"{n:04d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")


def _humans(rng: random.Random, answer: str, wrong: list[str]) -> list[dict[str, Any]]:
    """Ten answers; in three questions of four one to three people say something else."""
    dissent = rng.choice([0, 1, 2, 3])
    said = [answer] * (10 - dissent) + [rng.choice(wrong) for _ in range(dissent)]
    rng.shuffle(said)
    return [{"answer": text, "answer_confidence": "yes", "answer_id": n} for n, text in enumerate(said, start=1)]


def _wrong(answer: str) -> list[str]:
    for pool in (list(COLORS), list(SCENES), PLACES, [str(n) for n in range(7)], ["yes", "no"]):
        if answer in pool:
            return [other for other in pool if other != answer]
    return ["thing", "something", "unknown"]


def write_vqav2(folder: Path, scenes: dict[int, Scene]) -> None:
    """Questions and annotations of VQAv2's validation set (visualqa.org); a yes/no and an open question an image."""
    questions, annotations = [], []
    for image_id, scene in scenes.items():
        rng = random.Random(f"vqa {image_id}")
        yes = rng.random() < 0.5
        kind = rng.choice(["exist", "color", "scene"])
        asked = [(yes_no(rng, scene, kind, yes), "yes" if yes else "no"), open_question(rng, scene)]
        for n, (question, answer) in enumerate(asked):
            question_id = image_id * 1000 + n
            kind = "yes/no" if answer in ("yes", "no") else "number" if answer.isdigit() else "other"
            questions.append({"image_id": image_id, "question": question, "question_id": question_id})
            annotations.append(
                {
                    "question_type": " ".join(question.lower().rstrip("?").split()[:2]),
                    "multiple_choice_answer": answer,
                    "answers": _humans(rng, answer, _wrong(answer)),
                    "image_id": image_id,
                    "answer_type": kind,
                    "question_id": question_id,
                }
            )
    license_ = {"name": "Apache-2.0", "url": "http://www.apache.org/licenses/LICENSE-2.0"}
    head: dict[str, Any] = {"info": {"description": "mmalign-eval miniature"}, "license": license_}
    head |= {"data_type": "mscoco", "data_subtype": "val2014"}
    write_json(
        folder / "v2_OpenEnded_mscoco_val2014_questions.json",
        {**head, "task_type": "Open-Ended", "questions": questions},
    )
    write_json(folder / "v2_mscoco_val2014_annotations.json", {**head, "annotations": annotations})


def write_flickr30k(folder: Path, count: int) -> None:
    """dataset_flickr30k.json (Karpathy) and flickr30k-images/."""
    scenes = dict(enumerate(held_out_scenes(20_000, count), start=1_000_001))
    names = {number: f"{number}.jpg" for number in scenes}
    for number, scene in scenes.items():
        save_image(scene, folder / "flickr30k-images" / names[number])
    rows = karpathy_rows(scenes, names, {})
    shown = {2_000_001 + seed: make_scene(seed) for seed in range(TRAINING_ROWS)}
    shown_names = {number: f"{number}.jpg" for number in shown}
    rows += karpathy_rows(shown, shown_names, {}, split="train", first=len(rows))
    write_json(folder / "dataset_flickr30k.json", {"images": rows, "dataset": "flickr30k"})


# MM-Vet's six capabilities are labels here, given so that every column of its table has questions.
_VET_LABELS = [["rec"], ["rec", "spat"], ["rec", "know"], ["rec", "gen"], ["ocr", "spat"], ["math"], ["ocr", "math"]]


def write_mmvet(folder: Path, count: int) -> None:
    """mm-vet.json (id -> record) and images/ (yuweihao/MM-Vet)."""
    out: dict[str, Any] = {}
    for number, scene in enumerate(held_out_scenes(30_000, count)):
        rng = random.Random(f"mmvet {number}")
        labels = _VET_LABELS[number % len(_VET_LABELS)]
        question, answer = open_question(rng, scene)
        if labels == ["rec", "gen"]:
            question, answer = rng.choice(DETAIL_PROMPTS), detailed(scene)
        elif number % 5 == 0:
            left = " <AND> ".join(scene.names)
            question, answer = "What objects are in the image?", left.replace(" <AND> ", "<AND>")
        name = f"v1_{number}.jpg"
        save_image(scene, folder / "images" / name)
        out[f"v1_{number}"] = {
            "imagename": name, "question": question, "answer": answer, "imagesource": "miniature", "capability": labels,
        }  # fmt: skip
    write_json(folder / "mm-vet.json", out)


def write_llavabench(folder: Path, count: int) -> None:
    """questions.jsonl, context.jsonl, answers_gpt4.jsonl and images/ (liuhaotian/llava-bench-in-the-wild).

    The reference answers are the world's own truth; no model wrote them.
    """
    questions: list[Any] = []
    contexts, answers = [], []
    for number, scene in enumerate(held_out_scenes(40_000, count), start=1):
        rng = random.Random(f"llavabench {number}")
        image = f"{number:03d}.jpg"
        save_image(scene, folder / "images" / image)
        contexts.append({"id": f"{number:03d}", "image": image, "caption": detailed(scene)})
        short, answer = open_question(rng, scene)
        asked = [
            ("conv", short, answer),
            ("detail", rng.choice(DETAIL_PROMPTS), detailed(scene)),
            ("complex", "What place is shown, and what objects tell you so?", f"{scene.kind}. {references(scene)[0]}"),
        ]
        for category, text, reference in asked:
            number_of_question = len(questions)
            questions.append({"question_id": number_of_question, "image": image, "category": category, "text": text})
            answers.append(
                {"question_id": number_of_question, "text": reference, "answer_id": f"mini{number_of_question:03d}",
                 "model_id": "miniature world", "metadata": {}}
            )  # fmt: skip
    write_jsonl(folder / "questions.jsonl", questions)
    write_jsonl(folder / "context.jsonl", contexts)
    write_jsonl(folder / "answers_gpt4.jsonl", answers)


def write_object_halbench(folder: Path, scenes: dict[int, Scene]) -> None:
    """prompts_300.jsonl: one of RLHF-V's eight prompts for each COCO image, in turn (RLHF-V/RLAIF-V layout)."""
    rows = [
        {"idx": idx, "question": DETAIL_PROMPTS[idx % len(DETAIL_PROMPTS)], "image_id": image_id, "org_idx": idx}
        for idx, image_id in enumerate(scenes)
    ]
    write_jsonl(folder / "prompts_300.jsonl", rows)


def write_image_files(folder: Path, images: int = 200) -> None:
    """All image benchmarks; `images` is the size of the COCO folder, the others follow."""
    scenes = coco_scenes(images)
    write_coco(folder / "coco", scenes)
    write_pope(folder / "pope", scenes)
    write_vqav2(folder / "vqav2", scenes)
    write_object_halbench(folder / "object_halbench", scenes)
    write_mme(folder / "mme")
    write_flickr30k(folder / "flickr30k", max(6, images // 5))
    write_mmvet(folder / "mmvet", max(6, images // 6))
    write_llavabench(folder / "llavabench", max(3, images // 16))
