"""Small copies of the sets of faces: pictures of one colour, brighter with age, coloured by race and gender."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from ordclust_ray.datasets.generated_pictures import picture, save_picture

SIDE = 24
OLDEST = 80
AGES = (20, 30, 40, 50)
MORPH_PERSONS = {"W": "FMMMFMMMFMMM", "B": "FMMMFMMMFMMM", "A": "FM", "H": "FM", "O": "FM"}
"""Persons by race, a letter each, the gender."""
PERSONS_A_START = 3
"""As many begin at the same age: a random split of few images then has all ages in both parts."""
MORPH_COLUMNS = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
AFAD_GENDERS = ("111", "112")
AFAD_IMAGES = 12
UTKFACE_IMAGES = 2


def generate_morph(folder: Path) -> None:
    """120 images of 30 persons, four of each, at 20, 30, 40 and 50 years."""
    lines = [MORPH_COLUMNS]
    for person, (race, gender, ages) in enumerate(_persons(), 100_001):
        for number, age in enumerate(ages):
            photo = f"Album2/{person}_{number:02}{gender}{age}.JPG"
            hue = list(MORPH_PERSONS).index(race) / 5 + 0.05 * (gender == "F")
            save_picture(folder / photo, picture(age / OLDEST, hue, SIDE, SIDE, person * 10 + number))
            lines.append(f"{person},{number},01/01/1950,01/01/{1950 + age},{race},{gender},,{age},0,,{photo}")
    (folder / "morph_2008_nonCommercial.csv").write_text("\n".join(lines) + "\n")


def _persons() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Race, gender, and the ages on a person's images."""
    for race, genders in MORPH_PERSONS.items():
        for person, gender in enumerate(genders):
            start = person // PERSONS_A_START % len(AGES)
            yield race, gender, AGES[start:] + AGES[:start]


def generate_afad(folder: Path) -> None:
    """96 images: 12 of each age (20, 30, 40, 50) and gender."""
    for key, (age, gender, number) in enumerate(product(AGES, AFAD_GENDERS, range(AFAD_IMAGES))):
        file = folder / "AFAD-Full" / str(age) / gender / f"{100_000 + key}-{number % 2}.jpg"
        save_picture(file, picture(age / OLDEST, AFAD_GENDERS.index(gender) / 2, SIDE, SIDE, key))


def generate_utkface(folder: Path) -> None:
    """80 images: 2 of each age (20, 30, 40, 50), gender and race."""
    images = product(AGES, (0, 1), range(5), range(UTKFACE_IMAGES))
    for key, (age, gender, race, _) in enumerate(images):
        file = folder / "UTKFace" / f"{age}_{gender}_{race}_{20170101000000000 + key}.jpg.chip.jpg"
        save_picture(file, picture(age / OLDEST, race / 5 + 0.1 * gender, SIDE, SIDE, key))


def generate_balanced(folder: Path) -> None:
    """The copies of the three sets, each in its folder."""
    for name, generate in (("MORPH", generate_morph), ("AFAD", generate_afad), ("UTKFace", generate_utkface)):
        generate(folder / name)
