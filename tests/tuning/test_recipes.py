"""The packaged recipes: every value has its source, and every model is what its paper says, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from mmalign_eval.tuning.architectures import architecture, architecture_names, build, vocabulary
from mmalign_eval.tuning.config import Recipe, leaves, load_recipe, recipe_names
from mmalign_eval.tuning.lora import prepare

from mmalign_eval.errors import BadInput
from tests.support import REPO

FOLDER = REPO / "tuning" / "recipes"
# Trained by hand's count. LoRA of rank r on a d_in x d_out matrix: r (d_in + d_out).
# 7B: 32 layers x 64 x (4 x (4096 + 4096) + 3 x (4096 + 11008)); linear projector 1024 x 4096 + 4096.
LORA_7B, LINEAR_7B = 32 * 64 * (4 * 8192 + 3 * 15104), 1024 * 4096 + 4096
# 3B: 26 layers, hidden 3200, 8640 inside.
LORA_3B, LINEAR_3B = 26 * 64 * (4 * 6400 + 3 * 11840), 1024 * 3200 + 3200
# 13B: 40 layers, hidden 5120, 13824 inside.
LORA_13B = 40 * 64 * (4 * 10240 + 3 * 18944)
# A LLaMA: embeddings and head, per layer four square matrices, three of the MLP and two norms, and the last norm.
LLAMA_7B = 2 * 32000 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
LLAMA_3B = 2 * 32000 * 3200 + 26 * (4 * 3200**2 + 3 * 3200 * 8640 + 2 * 3200) + 3200
IMAGE_7B, IMAGE_3B = 2 * 4096, 2 * 3200  # rows of `<image>` in embeddings and head
SBT_3B, SBT_7B = ("openllama-3b", "openalpaca-3b"), ("llama-7b", "vicuna-7b", "llama2-7b", "llama2-chat-7b")
TRAINED = {
    **{f"{model}-mm-ft": LLAMA_3B + IMAGE_3B + LINEAR_3B for model in SBT_3B},
    **{f"{model}-mm-lora": LORA_3B + LINEAR_3B for model in SBT_3B},
    **{f"{model}-mm-ft": LLAMA_7B + IMAGE_7B + LINEAR_7B for model in SBT_7B},
    **{f"{model}-mm-lora": LORA_7B + LINEAR_7B for model in SBT_7B},
    **{f"llava15-7b-{arm}": LORA_7B for arm in ("bpo", "bpo-self", "bpo-weakened")},
    **{f"llava15-7b-bpo-{share}pct": LORA_7B for share in (25, 50, 75)},
    **{f"llava15-7b-sft-{share}pct": LORA_7B // 2 for share in (25, 50, 75)},
    **{f"llava15-7b-{arm}": LORA_7B // 2 for arm in ("bpo-script", "sft", "sft-lr1e-5")},
    **{"llava15-13b-bpo": LORA_13B, **{f"llava15-13b-bpo-{share}pct": LORA_13B for share in (25, 50, 75)}},
    **{f"llava15-13b-sft-{share}pct": LORA_13B // 2 for share in (25, 50, 75)},
    **{f"llava15-13b-{arm}": LORA_13B // 2 for arm in ("bpo-script", "sft", "sft-lr1e-5")},
    **{name: LLAMA_7B + IMAGE_7B + LINEAR_7B for name in recipe_names() if "-ft-" in name},
    **{name: LORA_7B + LINEAR_7B for name in recipe_names() if "-lora-" in name},
    # miniature: 2 x 1792 x 160 + 4 x (4 x 160^2 + 3 x 160 x 432 + 2 x 160) + 160; projector 128 -> 160 -> 160
    "mini-mm-ft": 573440 + 4 * (102400 + 207360 + 320) + 160 + 20640 + 25760,
    "mini-mm-lora": 4 * 64 * (4 * 320 + 3 * 592) + 20640 + 25760,
    "mini-bpo": 4 * 64 * (4 * 320 + 3 * 592),
    "mini-sft": 4 * 64 * (4 * 320 + 3 * 592),
}


def test_hand_counts_are_the_known_ones() -> None:
    assert (LORA_7B, LLAMA_7B, LLAMA_3B) == (159_907_840, 6_738_415_616, 3_426_473_600)


COUNTED: dict[tuple[Any, ...], int] = {}


def trained(recipe: Recipe) -> int:
    """Trained parameters; counted once for recipes that differ in data and schedule alone."""
    made_of = (recipe.method in ("mm-ft", "mm-lora"), recipe.language, recipe.projector, recipe.lora)
    if made_of not in COUNTED:
        model = prepare(build(recipe), recipe, "tune")
        assert all(parameter.device.type == "meta" for parameter in model.parameters())
        COUNTED[made_of] = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return COUNTED[made_of]


@pytest.mark.parametrize("name", recipe_names())
def test_trained_parameters_on_the_meta_device(name: str) -> None:
    assert trained(load_recipe(name)) == TRAINED[name]


def test_all_parameters_of_llava_are_those_of_the_hub() -> None:
    """LLaVA-1.5-7B on the hub has 7,063,427,072: language model, tower with all of its 24 layers, projector."""
    tower = 1024 + 3 * 14 * 14 * 1024 + 577 * 1024 + 4 * 1024
    tower += 24 * (4 * (1024**2 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024)
    assert tower == 303_507_456
    model = build(load_recipe("llava15-7b-bpo"))
    parts = model.model
    assert sum(p.numel() for p in parts.vision_tower.parameters()) == tower
    assert sum(p.numel() for p in model.parameters()) == 7_063_427_072


def test_stage_one_trains_the_projector_alone() -> None:
    recipe = load_recipe("llama2-7b-mm-ft")
    model = prepare(build(recipe), recipe, "pretrain")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == LINEAR_7B


@pytest.mark.parametrize("name", recipe_names())
def test_every_value_says_where_it_comes_from(name: str) -> None:
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    told = set(content.get("sources", {}))
    values = leaves({key: value for key, value in content.items() if key not in ("about", "extends", "sources")})
    miniature = ("method", "language", "vision", "projector", "base", "tower")  # its own
    for key in values:
        if name.startswith("mini-") and (key in miniature or key.startswith(("data.", "pretrain_data."))):
            continue
        if content.get(key, "") is None:  # taken away: `preference: null` of an SFT recipe
            continue
        # what differs from the extended recipe has a source of its own: the other's would be told of another value
        parts = {key, key.partition(".")[0]}
        assert told & parts, f"{name}: {key} has no source"
    assert content["about"]


def test_settings_of_the_papers() -> None:
    def values(name: str) -> tuple[Any, ...]:
        recipe = load_recipe(name)
        stage = recipe.tune
        return stage.lr, stage.epochs, stage.batch, stage.micro_batch, stage.template, recipe.projector

    for model, template in {"llama2-7b": "llava_llama_2", "llama2-chat-7b": "llava_llama_2", "vicuna-7b": "v1"}.items():
        for mode in ("ft", "lora"):
            assert values(f"{model}-mm-{mode}") == (2e-5, 1, 64, 4, template, "linear")
            stage = load_recipe(f"{model}-mm-{mode}").pretrain
            assert stage is not None
            assert (stage.lr, stage.template, stage.micro_batch, stage.warmup) == (2e-3, "plain", 16, 0.03)
    lora = load_recipe("llama2-7b-mm-lora").lora
    assert lora is not None
    assert (lora.r, lora.alpha, lora.dropout) == (64, 16, 0.05)
    assert values("llava15-7b-bpo") == values("llava15-13b-bpo") == (2e-6, 2, 32, 4, "v1", "mlp2x_gelu")
    assert values("llava15-7b-sft-lr1e-5")[:2] == (1e-5, 1)
    bpo, script = load_recipe("llava15-7b-bpo"), load_recipe("llava15-7b-bpo-script")
    assert bpo.preference == script.preference
    assert bpo.preference is not None
    assert (bpo.preference.beta, bpo.data.max_words, bpo.preference.train_projector) == (0.1, 350, False)
    assert load_recipe("llava15-13b-sft").data.max_words == 350
    assert bpo.lora is not None
    assert script.lora is not None
    assert (bpo.lora.r, script.lora.r, script.lora.alpha) == (64, 32, 256)


def test_ablations_differ_from_the_main_recipe_in_their_data_alone() -> None:
    for chat in ("", "-chat"):
        main = load_recipe(f"llama2{chat}-7b-mm-ft")
        for kind in ("conversation", "detail", "reasoning", "random"):
            arm = load_recipe(f"llama2{chat}-7b-mm-ft-{kind}-20k")
            assert arm.data.samples == 20_000
            assert arm.data.kinds == (() if kind == "random" else (kind,))
            same = {"name": main.name, "about": main.about, "data": main.data, "sources": main.sources}
            assert arm.model_copy(update=same) == main
        text = load_recipe(f"llama2{chat}-7b-mm-ft-text-only")
        assert text.data == main.data.model_copy(update={"text_only": True})


@pytest.mark.parametrize("name", architecture_names())
def test_architectures_are_used_and_valid(name: str) -> None:
    from transformers import CLIPVisionConfig, LlamaConfig

    users = [r for r in map(load_recipe, recipe_names()) if name in (r.language, r.vision)]
    assert users or name == "llama-13b"
    kind = "vision" if name.startswith(("clip", "miniature-clip")) else "language"
    part = architecture(name, kind)
    kept: Any = (CLIPVisionConfig if kind == "vision" else LlamaConfig)(**part.config)
    assert {key: getattr(kept, key) for key in part.config} == part.config
    assert part.source


def test_unknown_architectures_are_refused() -> None:
    with pytest.raises(BadInput, match=r"unknown language architecture 'llama2-7c'.*did you mean.*llama2-7b"):
        build(load_recipe("llama2-7b-mm-ft", {"language": "llama2-7c"}))
    with pytest.raises(BadInput, match="unknown vision architecture 'llama-7b'"):
        build(load_recipe("llama2-7b-mm-ft", {"vision": "llama-7b"}))


def test_the_miniature_is_its_checkpoint() -> None:
    from transformers import AutoConfig

    from mmalign_eval.miniature import checkpoint

    recipe = load_recipe("mini-bpo")
    ours, theirs = build(recipe).config, AutoConfig.from_pretrained(checkpoint("llava"))
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        assert getattr(ours.text_config, key) == getattr(theirs.text_config, key), key
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "image_size", "patch_size"):
        assert getattr(ours.vision_config, key) == getattr(theirs.vision_config, key), key
    assert vocabulary(recipe) == theirs.text_config.vocab_size
