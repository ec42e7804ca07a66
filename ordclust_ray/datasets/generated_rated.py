"""Small copies of AADB and HCI: pictures of one colour, brighter with the score or the decade."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from ordclust_ray.datasets.generated_pictures import picture, save_picture

SIDE = 24
THEMES = ("farm", "city", "portrait")
SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)
AADB_PARTS = {
    "imgListTrainRegression_score.txt": ("datasetImages_originalSize", 12),
    "imgListValidationRegression_score.txt": ("datasetImages_originalSize", 2),
    "imgListTestNewRegression_score.txt": ("AADB_newtest_originalSize", 4),
}
"""By list: the folder of its images, and how many there are of each score."""
IMAGES_A_DECADE = 20


def generate_aadb(folder: Path) -> None:
    """90 images: of each of five scores 12 for training, 2 for validation, 4 for testing, of three themes in turn."""
    key = 0
    for name, (home, images) in AADB_PARTS.items():
        lines = []
        for score, number in product(SCORES, range(images)):
            key += 1
            theme = THEMES[number % len(THEMES)]
            image = f"{theme}{number}_{100 + key}_{key:010}_b.jpg"
            save_picture(folder / home / image, picture(score, THEMES.index(theme) / 3, SIDE, SIDE, key))
            lines.append(f"{image} {score + 0.002:.6f}")  # scores are not in steps of 0.01
        file = folder / "imgListFiles_label" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines) + "\n")


def generate_hci(folder: Path, decades: Sequence[str]) -> None:
    """20 images of each decade."""
    home = folder / "HistoricalColor-ECCV2012" / "data" / "imgs" / "decade_database"
    for key, (decade, number) in enumerate(product(decades, range(IMAGES_A_DECADE))):
        pixels = picture(decades.index(decade) / len(decades), number % 3 / 3, SIDE, SIDE, key)
        save_picture(home / decade / f"{decade}_{number:03}.jpg", pixels)
