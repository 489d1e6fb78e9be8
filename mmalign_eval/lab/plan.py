"""From arms to steps: which commands make and score all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..miniature.files_coco import FIRST_IMAGE_ID, file_name
from .arms import Arm, Instruct, Negatives, Plan, Prefer, Scale, Score
from .scenes import PROBE
from .steps import PACKAGE as MMEVAL
from .steps import Step

MAKE = "mmalign_eval.lab.make"
LANGUAGE, LLAVA = "mini:lm", "mini"  # the embedded checkpoints: before, and after, any visual tuning
RESULTS, STORES, MODELS, PAIRS = "results", "stores", "models", "pairs"
INSTRUCT, PREFER = "data/instruct", "data/prefer"
RECIPES = {"bpo": "mini-bpo", "sft": "mini-sft"}
MERGED = "+".join
SFT_ON = "injected"  # every positive is in this preference file, as the chosen answer
CURVE_TASKS = ("captions",)


def steps_of(plan: Plan, scale: Scale, scenes: str = "judge") -> list[Step]:
    """All steps.

    Args:
        plan: The arms.
        scale: How large.
        scenes: What is scored on: `judge`, or `choose`.
    """
    return list(_Steps(plan, scale, scenes).all())


def ends_of(steps: Sequence[Step], arms: Sequence[str]) -> list[str]:
    """The scoring steps of some arms and of the base."""
    wanted = {*arms, "base"}
    return [step.name for step in steps if step.name.startswith("score/") and step.name.split("/")[1] in wanted]


class _Steps:
    def __init__(self, plan: Plan, scale: Scale, scenes: str) -> None:
        self.plan, self.scale, self.scenes = plan, scale, scenes
        self.share = 0.1 if scale.max_steps else 1.0  # of the minutes

    def all(self) -> Iterator[Step]:
        count = {"instruct": self.scale.instruct, "prefer": self.scale.prefer, "probe": self.scale.probe}
        count[self.scenes] = getattr(self.scale, self.scenes)
        for kind, scenes in count.items():
            asked = (str(self.scale.questions),) if kind == self.scenes else ()
            yield Step(f"data/{kind}", (MAKE, "data", kind, str(scenes), *asked), minutes=scenes / 5000)
        yield from self._pairs()
        yield from self._base()
        for one in self.plan.instruct:
            if self._has(one):
                yield from self._instruct(one)
        for other in self.plan.prefer:
            if self._has(other):
                yield from self._prefer(other)

    def _has(self, arm: Arm) -> bool:
        return not self.scale.arms or arm.name in self.scale.arms

    # -- preference files -----------------------------------------------------------------------------------------

    def _pairs(self) -> Iterator[Step]:
        whole = max(scale.prefer for scale in self.plan.scales.values())
        sources: list[str] = []
        for name, count in self.plan.positives.items():
            drawn = max(2, count * self.scale.prefer // whole)
            sources += ["--source", f"{name}={PREFER}/{name}.json:{drawn}"]
        positives = f"{PAIRS}/positives.jsonl"
        yield Step(positives, (MMEVAL, "tune", "positives", *sources, "--out", positives), ("data/prefer",), 0.2)
        made = {name for arm in self.plan.prefer if self._has(arm) for name in (*arm.pairs, SFT_ON)}
        for name, one in self.plan.negatives.items():
            if name not in made:
                continue
            yield Step(f"{PAIRS}/{name}", self._negatives(name, one, positives), (positives,), 0.2 if one.rules else 4)
        for names in sorted({arm.pairs for arm in self.plan.prefer if self._has(arm) and len(arm.pairs) > 1}):
            parts = [f"{PAIRS}/{name}.json" for name in names]
            out = f"{PAIRS}/{MERGED(names)}"
            yield Step(out, (MAKE, "join", f"{out}.json", *parts), tuple(f"{PAIRS}/{n}" for n in names), 0.1)

    def _negatives(self, name: str, one: Negatives, positives: str) -> tuple[str, ...]:
        out = f"{PAIRS}/{name}.json"
        if one.rules:
            return (MAKE, "injected", one.rules, positives, out)
        return (
            *(MMEVAL, "tune", "negatives", "--model", LLAVA, "-M", f"template={self.plan.template}"),
            *("--positives", positives, "--images", f"{PREFER}/images", "--out", out, "--how", one.how),
            *("--max-new-tokens", "160", *one.options),
        )

    # -- trainings ------------------------------------------------------------------------------------------------

    def _seeds(self, arm: Arm) -> tuple[int, ...]:
        return self.scale.seeds if arm.seeds else self.scale.seeds[:1]

    def _set(self, arm: Arm) -> tuple[str, ...]:
        method = arm.method if isinstance(arm, Prefer) else "mm"
        changes = dict(change.split("=", 1) for change in (*self.plan.settings[method], *arm.changes))
        if steps := str(self.scale.max_steps or ""):
            changes.pop("data.samples", None)
            changes |= {"tune.max_steps": steps, "tune.log_every": "1"}
            changes |= {"pretrain.max_steps": steps} if isinstance(arm, Instruct) else {}
        return tuple(part for key, value in changes.items() for part in ("--set", f"{key}={value}"))

    def _instruct(self, arm: Instruct) -> Iterator[Step]:
        first = self.plan.instruct[0].name  # its first stage is all others' too
        for seed in self._seeds(arm):
            out = f"{MODELS}/{arm.name}-s{seed}"
            stage_1 = f"{MODELS}/{first}-s{seed}.stage1"
            begin: tuple[str, ...] = ("--init", stage_1)
            if arm.name == first:
                begin = ("--pretrain-data", f"{INSTRUCT}/pretrain.json", "--pretrain-images", f"{INSTRUCT}/images")
            command = (
                *(MMEVAL, "tune", "mm-lora" if arm.lora else "mm-ft", "--recipe", arm.recipe, *begin),
                *("--data", f"{INSTRUCT}/{arm.data}.json", "--images", f"{INSTRUCT}/images"),
                *("--out", out, "--seed", str(seed), *self._set(arm)),
            )
            needs = ("data/instruct",) if arm.name == first else ("data/instruct", f"tune/{first}-s{seed}")
            yield Step(f"tune/{arm.name}-s{seed}", command, needs, arm.minutes * self.share)
            seen = f"hf:{stage_1},adapter={out}" if arm.lora else f"hf:{out}"
            told = f"{LANGUAGE},adapter={out}" if arm.lora else f"hf:{out}"
            yield from self._scores(arm.name, f"{arm.name}-s{seed}", arm.scores, seen, told)

    def _prefer(self, arm: Prefer) -> Iterator[Step]:
        for seed in self._seeds(arm):
            out = f"{MODELS}/{arm.name}-s{seed}"
            common = ("--model", LLAVA, "--images", f"{PREFER}/images", "--out", out, "--seed", str(seed))
            if arm.method == "sft":
                need = f"{PAIRS}/{SFT_ON}"
                kind: tuple[str, ...] = ("--data", f"{need}.json")
            else:
                need = f"{PAIRS}/{MERGED(arm.pairs)}"
                kind = ("--pairs", f"{need}.json", "--references", f"{MODELS}/references")
            command = (MMEVAL, "tune", arm.method, "--recipe", RECIPES[arm.method], *kind, *common, *self._set(arm))
            yield Step(f"tune/{arm.name}-s{seed}", command, (need,), arm.minutes * self.share)
            yield from self._scores(arm.name, f"{arm.name}-s{seed}", arm.scores, f"{LLAVA},adapter={out}", "")

    # -- scores ---------------------------------------------------------------------------------------------------

    def _base(self) -> Iterator[Step]:
        images = [name for name, score in self.plan.scores.items() if not score.data]
        text = [name for name, score in self.plan.scores.items() if score.data]
        yield from self._scores("base", "", images, LLAVA, "")
        yield from self._scores("base", "", text, "", LANGUAGE)
        for noise in self.plan.weakening[-1:] if self.scale.max_steps else self.plan.weakening:
            seen = f"{LLAVA},weaken=features:{noise}:scale=std"
            yield from self._scores("base", f"noise-{noise}", CURVE_TASKS, seen, "")
        yield Step("score/base/probe", self._probe(), ("data/probe",), 0.5)

    def _probe(self) -> tuple[str, ...]:
        """Fig. 5: asked for a knife where there is only a fork, whose partner it always is in the text world."""
        scenes = PROBE.scenes(self.scale.probe, at_least=3)
        telling = [n for n, scene in enumerate(scenes) if "fork" in scene.names and "knife" not in scene.names]
        images = [f"data/probe/coco/val2014/{file_name(FIRST_IMAGE_ID + n)}" for n in telling or range(len(scenes))]
        return (
            *(MMEVAL, "tune", "probe", "--model", LLAVA, "-M", f"template={self.plan.template}", "--out", "probe"),
            *(part for image in images for part in ("--image", image)),
            *("--question", "Is there a knife in the image?", "--answer-prefix", "", "--words", "Yes,No"),
        )

    def _scores(self, arm: str, name: str, scores: Sequence[str], seen: str, told: str) -> Iterator[Step]:
        """One command for the image tasks, then one for the text tasks: results of a model are written by one run."""
        before: tuple[str, ...] = ()
        for data, model in (("", seen), ("mini", told)):
            some = [self.plan.scores[score] for score in scores if self.plan.scores[score].data == data]
            if some and model:
                what = "text" if data else "image"
                need = (f"tune/{name}",) if name and not name.startswith("noise-") else ()
                scenes = () if data else (f"data/{self.scenes}",)
                minutes = sum(score.minutes for score in some) * self.share
                where = f"score/{arm}/{name or LLAVA}-{what}"
                yield Step(where, self._run(model, some, data, where), (*need, *scenes, *before), minutes)
                before = (where,)

    def _run(self, model: str, scores: Sequence[Score], data: str, where: str) -> tuple[str, ...]:
        tasks = [task.partition("=") for score in scores for task in score.tasks]
        tasks = [task for task in tasks if not self.scale.tasks or task[0] in self.scale.tasks]
        protocols = [f"{name}={protocol}" for name, _, protocol in tasks if protocol]
        options = ("-M", f"template={self.plan.template}")
        limit = ("--limit", "4") if data and self.scale.max_steps else ()
        return (
            *(MMEVAL, "run", "--model", model, "--tasks", ",".join(name for name, _, _ in tasks), *options, *limit),
            *(part for protocol in protocols for part in ("--protocol", protocol)),
            *("--data", data or f"data/{self.scenes}", "--out", RESULTS),
            *("--store", f"{STORES}/{where.replace('/', '_')}.sqlite"),
        )
