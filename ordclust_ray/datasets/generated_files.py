"""Small copies of the sets that come as image files: ImageNet's classes, coffee leaves."""

from collections.abc import Sequence
from pathlib import Path

from ordclust_ray.datasets.generated_pictures import picture, save_picture

IMAGES_A_CLASS = 6
LEAVES = 100
STRESSES, SEVERITIES = 4, 5  # healthy is no stress, and severity 0


def generate_imagenet(folder: Path, synsets: Sequence[str]) -> None:
    """Writes `train/<synset>/<synset>_<number>.JPEG`: six images a class, 32 x 24 pixels."""
    for place, synset in enumerate(synsets):
        level, hue = place / (len(synsets) - 1), place / len(synsets)
        for number in range(IMAGES_A_CLASS):
            file = folder / "train" / synset / f"{synset}_{10 * number + 7}.JPEG"
            save_picture(file, picture(level, hue, 24, 32, 1_000 * place + number))


def generate_coffee(folder: Path) -> None:
    """Writes `coffee-datasets/leaf`: twenty leaves of each severity, five of each stress; 100 in all.

    Severities 0 to 4 take turns; so do, from one such round to the next, stresses 1 to 4 of the leaves that have any.
    """
    home = folder / "coffee-datasets" / "leaf"
    lines = ["id,predominant_stress,miner,rust,phoma,cercospora,severity"]
    for number in range(LEAVES):
        turn, severity = divmod(number, SEVERITIES)
        stress = turn % STRESSES + 1 if severity else 0
        flags = ",".join(str(int(stress == one)) for one in range(1, STRESSES + 1))
        lines.append(f"{number + 1},{stress},{flags},{severity}")
        pixels = picture(severity / (SEVERITIES - 1), stress / (STRESSES + 1), 16, 32, number)
        save_picture(home / "images" / f"{number + 1}.jpg", pixels)
    (home / "dataset.csv").write_text("\n".join(lines) + "\n")
