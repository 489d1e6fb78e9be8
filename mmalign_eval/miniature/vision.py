"""The vision tower: a small CLIP ViT taught what stands in each patch, at the layer LLaVA reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from mmalign_eval.miniature.render import draw, outline
from mmalign_eval.miniature.shapes import SHAPES
from mmalign_eval.miniature.training import Plan, train
from mmalign_eval.miniature.world import COLORS, IMAGE_SIZE, NAMES, PATCH_SIZE, Scene, make_scene

GRID = IMAGE_SIZE // PATCH_SIZE
PATCHES = GRID * GRID
FEATURE_LAYER = -2  # LLaVA's vision_feature_layer
_MIN_PIXELS = 12  # of 144: a patch with less of an object counts as background

# CLIP's own pixel statistics (openai/CLIP): what CLIPImageProcessor subtracts and divides by.
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def vision_config(hidden: int = 128, layers: int = 4) -> CLIPVisionConfig:
    """The tower's shape: 0.85 M parameters at the defaults."""
    return CLIPVisionConfig(
        hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers, num_attention_heads=4,
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, projection_dim=hidden,
    )  # fmt: skip


def patch_targets(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Class and colour of each patch (0 = background), from the polygons as drawn."""
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), 0)
    pen = ImageDraw.Draw(canvas)
    for number, thing in enumerate(scene.things, start=1):
        for _, points in SHAPES[thing.name]:
            pen.polygon(outline(thing, points), fill=number)
    tiles = np.asarray(canvas).reshape(GRID, PATCH_SIZE, GRID, PATCH_SIZE).transpose(0, 2, 1, 3).reshape(PATCHES, -1)
    counts = np.stack([(tiles == n).sum(1) for n in range(1, len(scene.things) + 1)], axis=1)
    best = counts.argmax(1)
    clear = counts.max(1) >= _MIN_PIXELS
    names = np.array([NAMES.index(t.name) + 1 for t in scene.things])
    colors = np.array([list(COLORS).index(t.color) + 1 for t in scene.things])
    return np.where(clear, names[best], 0), np.where(clear, colors[best], 0)


def render_set(seeds: range, folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, patch classes and patch colours of many scenes, cached on disk."""
    paths = [folder / f"{name}_{part}.npy" for part in ("pixels", "classes", "colors")]
    if not all(path.exists() for path in paths):
        pixels = np.zeros((len(seeds), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        classes = np.zeros((len(seeds), PATCHES), np.int64)
        colors = np.zeros((len(seeds), PATCHES), np.int64)
        for row, seed in enumerate(seeds):
            scene = make_scene(seed)
            pixels[row] = np.asarray(draw(scene))
            classes[row], colors[row] = patch_targets(scene)
        np.save(paths[0], pixels)
        np.save(paths[1], classes)
        np.save(paths[2], colors)
    a, b, c = (np.load(path, mmap_mode="r") for path in paths)
    return a, b, c


def normalize(pixels: np.ndarray) -> torch.Tensor:
    """Pixels (n, h, w, 3) as CLIPImageProcessor would deliver them."""
    values = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
    return (values - CLIP_MEAN) / CLIP_STD


class PatchReader(nn.Module):
    """The tower with the heads that teach it; only the tower is kept."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(config)
        self.classes = nn.Linear(config.hidden_size, len(NAMES) + 1)
        self.colors = nn.Linear(config.hidden_size, len(COLORS) + 1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and colour logits of every patch, read at LLaVA's layer."""
        hidden = self.tower(pixels, output_hidden_states=True).hidden_states[FEATURE_LAYER][:, 1:]
        return self.classes(hidden), self.colors(hidden)


def train_tower(images: int, plan: Plan, folder: Path, config: CLIPVisionConfig, batch: int = 64) -> CLIPVisionModel:
    """Train the tower on `images` scenes (seeds 0, 1, ...) with random mirroring."""
    torch.manual_seed(0)
    pixels, classes, colors = render_set(range(images), folder, "train")
    model = PatchReader(config)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng([13, step])
        rows = np.sort(rng.choice(images, min(batch, images), replace=False))
        x, y, z = pixels[rows], classes[rows].reshape(-1, GRID, GRID), colors[rows].reshape(-1, GRID, GRID)
        if rng.random() < 0.5:
            x, y, z = x[:, :, ::-1], y[:, :, ::-1], z[:, :, ::-1]
        said_class, said_color = model(normalize(x))
        loss = nn.functional.cross_entropy(said_class.flatten(0, 1), torch.from_numpy(y.copy()).flatten())
        return loss + nn.functional.cross_entropy(said_color.flatten(0, 1), torch.from_numpy(z.copy()).flatten())

    train(plan, model, loss_of, folder)
    return model.tower


@torch.no_grad()
def patch_features(tower: CLIPVisionModel, pixels: np.ndarray, batch: int = 250) -> np.ndarray:
    """What LLaVA's projector will get for these images, as float16."""
    tower.eval()
    parts = []
    for start in range(0, len(pixels), batch):
        states = tower(normalize(pixels[start : start + batch]), output_hidden_states=True).hidden_states
        parts.append(states[FEATURE_LAYER][:, 1:].numpy().astype(np.float16))
    return np.concatenate(parts)
