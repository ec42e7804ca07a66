"""Any folder of images whose folders are the classes, as torchvision's ImageFolder has it."""

from pathlib import Path

from PIL import Image

from ordclust_ray.datasets.candidates import Candidates, image_files
from ordclust_ray.datasets.layouts import refuse_lists
from ordclust_ray.datasets.listing import TEST, TRAIN, VALIDATION, DataSet, Listing, require_layout
from ordclust_ray.datasets.stored import SUFFIXES

SPLITS = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}
TITLE, LAYOUT = "A folder of images", "any folder with images below it; train/, val/ and test/ in it are splits"


def read(source: Path, lists: Path | None) -> Listing:
    """The class of an image is the name of its folder; of the folders on top, those of `SPLITS` are splits."""
    refuse_lists(lists, TITLE)
    require_layout(source, exists=source.is_dir(), layout=LAYOUT, title="a folder of images")
    found = Candidates(image_files(source, SUFFIXES))
    top = found.rows["path"].str.split("/", n=1).str[0].str.lower()
    found = found.having(label=(f"{source.absolute().name}/" + found.rows["path"]).str.rsplit("/", n=2).str[-2])
    if len(top) and top.isin(SPLITS.keys()).all():
        return found.having(split=top.map(SPLITS)).listing(["label", "split"], [source])
    return found.listing(["label"], [source])


def generate(folder: Path) -> None:
    """Twelve grey images of two classes in two splits."""
    for split in ("train", "test"):
        for shade, name in ((60, "dark"), (190, "light")):
            (folder / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("L", (16, 16), shade + 10 * number).save(folder / split / name / f"{number}.png")


FOLDER = DataSet(
    name="folder",
    title=TITLE,
    read=read,
    layout=LAYOUT,
    published={},
    source="the user's own",
    licence="as its owner says",
    generate=generate,
)
