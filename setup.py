"""Maps the top-level folders tasks/, tuning/ and leaderboards/ into the package (the rest is in pyproject.toml)."""

from setuptools import find_namespace_packages, setup

MAPPED = ("tasks", "tuning", "leaderboards")
# what was measured in this repository is nobody else's data
LEFT_OUT = ["*.__pycache__*", "leaderboards.results", "leaderboards.results.*"]
subs = find_namespace_packages(".", include=[p for m in MAPPED for p in (m, f"{m}.*")], exclude=LEFT_OUT)

setup(
    packages=find_namespace_packages(".", include=["mmalign_eval", "mmalign_eval.*"], exclude=["*.__pycache__*"])
    + [f"mmalign_eval.{name}" for name in subs],
    package_dir={f"mmalign_eval.{m}": m for m in MAPPED},
    exclude_package_data={"mmalign_eval.leaderboards": ["*.md", "*.svg"]},  # pages are generated
)
