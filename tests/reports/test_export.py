"""Tables, links, copies and page of groups that are known."""

import base64
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ordclust_ray.config import ImagesConfig, InputError
from ordclust_ray.data.readers import Source, open_source
from ordclust_ray.reports.export import (
    copy_images,
    find_again,
    link_images,
    require_files,
    typical_first,
    written_whole,
)
from ordclust_ray.reports.export_page import Groups, Thumbnails, _class_bars, _rank_bars, write_page

N = 9
SCRIPT = "<script>alert(1)</script>"


def assigned(**columns: object) -> pd.DataFrame:
    """Three images a cluster, by turns; the later, the nearer to its centroid and to the border."""
    known = {
        "source": [f"/then/{i}.png" for i in range(N)],
        "cluster": np.arange(N) % 3,
        "distance": 1 - np.arange(N) / 10,
        "second": (np.arange(N) + 1) % 3,
        "margin": 1 - np.arange(N) / 100,
    }
    return pd.DataFrame({**known, **columns}, index=pd.RangeIndex(N, name="instance_id"))


@pytest.fixture
def folder(tmp_path: Path, png: Callable[[int], bytes]) -> Path:
    """Images 0.png to 8.png; the colour is the number."""
    (tmp_path / "now").mkdir()
    for i in range(N):
        (tmp_path / "now" / f"{i}.png").write_bytes(png(i))
    return tmp_path / "now"


def exported(folder: Path, rows: pd.DataFrame) -> tuple[pd.DataFrame, Source, np.ndarray]:
    """Rows with the sources of today, the source, and the ids in it."""
    source = open_source(ImagesConfig(path=str(folder)))
    rows = typical_first(rows)
    ids = find_again(rows["source"], "/then", source, str(folder))
    return rows.assign(source=str(folder) + rows["source"].str.removeprefix("/then")), source, ids


def test_least_distance_is_most_typical() -> None:
    rows = typical_first(assigned(label="cat", secret=1))
    assert rows["instance_id"].tolist() == [6, 3, 0, 7, 4, 1, 8, 5, 2]
    assert rows["cluster"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert rows["place"].tolist() == [0, 1, 2] * 3
    names = ["instance_id", "source", "cluster", "place", "distance", "second", "margin", "label"]
    assert rows.columns.tolist() == names


def test_most_similarity_is_most_typical_and_an_unknown_one_is_last() -> None:
    similarities = [0.1, 0.5, 0.9, np.nan, 0.5, 0.8, 0.7, 0.4, 0.3]
    rows = typical_first(assigned(similarity=similarities).drop(columns="distance"))
    assert rows["instance_id"].tolist() == [6, 0, 3, 1, 4, 7, 2, 5, 8]  # 1 and 4 are as similar: by id


def test_images_are_found_where_they_are_now(folder: Path) -> None:
    for gone in ("0.png", "4.png"):
        (folder / gone).unlink()
    source = open_source(ImagesConfig(path=str(folder)))
    ids = find_again(assigned()["source"], "/then", source, str(folder))
    assert ids.tolist() == [-1, 0, 1, 2, -1, 3, 4, 5, 6]
    by_pattern = find_again(assigned()["source"], "/then/*.png", source, str(folder / "*.png"))
    assert by_pattern.tolist() == ids.tolist()
    with pytest.raises(InputError, match=r"none of the run's images are in /.*; --path must say where they are now"):
        find_again(assigned()["source"] + "x", "/then", source, str(folder))


def test_output_is_whole_or_absent(tmp_path: Path) -> None:
    output = tmp_path / "below" / "output"
    with pytest.raises(FileNotFoundError), written_whole(output) as new:
        new.joinpath("file").write_text(Path("/no/such/file").read_text())
    assert list((tmp_path / "below").iterdir()) == []
    output.mkdir()  # empty
    with written_whole(output) as new:
        (new / "file").write_text("whole")
    assert [file.name for file in (tmp_path / "below").iterdir()] == ["output"]
    assert (output / "file").read_text() == "whole"
    with pytest.raises(InputError, match="holds files already"), written_whole(output):
        pass
    with pytest.raises(InputError, match=r"cannot be made: Not a directory"), written_whole(output / "file" / "x"):
        pass


def test_links_lead_to_the_images_and_what_lies_outside_is_not_linked(folder: Path, tmp_path: Path) -> None:
    rows, _, _ = exported(folder, assigned())
    (folder / "3.png").unlink()
    (folder / "4.png").unlink()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "4.png").symlink_to(tmp_path / "secret.png")
    failed = link_images(rows, folder, tmp_path)
    assert failed["instance_id"].tolist() == [3, 4]
    assert "No such file" in failed["reason"][0]
    assert failed["reason"][1] == "not a file in the folder of the images"
    names = sorted(str(link.relative_to(tmp_path)) for link in tmp_path.glob("cluster_*/*"))
    assert names[:2] == ["cluster_0/000000_6.png", "cluster_0/000002_0.png"]
    assert len(names) == N - 2
    assert (tmp_path / names[0]).readlink() == folder / "6.png"


def test_links_need_files() -> None:
    with pytest.raises(InputError, match=r"--images is 'links', .* it must be copies or none"):
        require_files(assigned(source="/then/a.parquet#0"))


def test_copies_are_the_bytes_by_their_format(
    folder: Path, tmp_path: Path, local_ray: None, png: Callable[[int], bytes]
) -> None:
    Image.new("RGB", (4, 4)).save(folder / "7.png", "JPEG")
    (folder / "5.png").write_bytes(b"neither")
    (folder / "4.png").unlink()
    rows, source, ids = exported(folder, assigned())
    wanted = rows["place"] < 2
    failed = copy_images(rows[wanted], ids[wanted], source, tmp_path)
    assert dict(zip(failed["instance_id"], failed["reason"], strict=True)) == {
        4: "gone",
        5: "not an image of a known format",
    }
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("cluster_*/*"))
    assert names == [
        "cluster_0/000000_6.png",
        "cluster_0/000001_3.png",
        "cluster_1/000000_7.jpg",
        "cluster_2/000000_8.png",
    ]
    assert (tmp_path / names[0]).read_bytes() == png(6)


def page(groups: Groups, thumbnails: Thumbnails, folder: Path) -> str:
    write_page(groups, thumbnails, f"run {SCRIPT}", {"images in": SCRIPT}, folder)
    return (folder / "index.html").read_text()


def test_page_shows_images_labels_and_reasons(folder: Path, tmp_path: Path, local_ray: None) -> None:
    (folder / "4.png").write_bytes(b"broken")
    (folder / "0.png").unlink()
    rows, source, ids = exported(folder, assigned(label=[SCRIPT, "", "cat"] * 3))
    groups = Groups(rows, 4)
    places = dict(zip(rows["instance_id"].tolist(), ids.tolist(), strict=True))
    text = page(groups, Thumbnails.decode(places, source, 1000), tmp_path)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    assert "100% &lt;script&gt;" in text  # of cluster 0
    assert text.count('class="gone"') == 4  # two images, typical and borderline
    assert "gone: not among the images any more" in text
    assert "cannot identify image file" in text
    assert "cluster 2, then 0" in text
    colours = [decoded(uri) for uri in re.findall(r'<img src="([^"]+)"', text)]
    assert len(colours) == 2 * (N - 2)
    np.testing.assert_allclose(colours[:2], [6, 3], atol=2)  # of cluster 0, the most typical first


def decoded(uri: str) -> int:
    """The red of an image in a page."""
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert image.size == (96, 96)
        return int(np.asarray(image)[48, 48, 0])


def test_only_shown_images_are_decoded(tmp_path: Path, local_ray: None, png: Callable[[int], bytes]) -> None:
    """Four of each rank and the nearest to the border, not the rest; ranks make columns."""
    count = 400
    pq.write_table(pa.table({"image": [png(i) for i in range(count)]}), tmp_path / "a.parquet", row_group_size=50)
    known = pd.DataFrame(
        {"source": [f"{tmp_path}/a.parquet#{i}" for i in range(count)], "cluster": np.arange(count) % 2}
    )
    known["similarity"], known["margin"] = np.linspace(0, 1, count), np.linspace(1, 0, count)
    known["rank"] = np.arange(count) // 2 % 3
    groups = Groups(typical_first(known), 2)
    assert len(groups.typical) == 2 * 3 * 4
    assert len(groups.borderline) == 2 * 12
    assert len(groups.shown) == 24  # the same ones here
    source = open_source(ImagesConfig(path=str(tmp_path / "a.parquet")))
    places = {int(i): int(i) for i in groups.shown["instance_id"]}
    thumbnails = Thumbnails.decode(places, source, 1000)
    assert sorted(thumbnails.uris) == sorted(places)
    text = page(groups, thumbnails, tmp_path)
    assert re.findall(r'<span class="rank">(\d)</span>', text) == ["0", "1", "2"] * 2
    assert 'title="rank 0: 67 images"' in text


@pytest.mark.parametrize(
    ("margin", "num_clusters", "says"),
    [
        (None, 3, "has not recorded how close"),
        (np.nan, 3, "has not recorded how close"),
        (np.nan, 1, "There is no other cluster"),
        (0.5, 3, ""),
    ],
)
def test_page_says_why_it_has_no_borderline_images(margin: float | None, num_clusters: int, says: str) -> None:
    rows = assigned(cluster=0, margin=margin) if margin is not None else assigned(cluster=0).drop(columns="margin")
    groups = Groups(typical_first(rows), num_clusters)
    assert bool(groups.why_no_borderline) == bool(says)
    assert says in groups.why_no_borderline
    assert len(groups.borderline) == (0 if says else N)


def test_bars() -> None:
    by_rank = _rank_bars(np.array([1.0, 1.5, 4.0]), pd.Series([1.5, 4.0, 1.5]))
    assert [(bar.name, bar.count, bar.share) for bar in by_rank] == [("1", 0, 0), ("1.5", 2, 100), ("4", 1, 50)]
    binned = _rank_bars(np.arange(101.0), pd.Series([0.0, 4.9, 5.1, 99.0, 100.0]))
    assert [bar.name for bar in binned] == [f"{5 * i}" for i in range(20)]
    assert [bar.count for bar in binned] == [2, 1, *[0] * 17, 2]
    classes = _class_bars(pd.Series({f"class {i}": 30 - i for i in range(25)}))
    assert (classes[0].name, classes[0].count, classes[0].share) == ("class 0", 30, 75)
    assert (classes[-1].name, classes[-1].count, classes[-1].share) == ("5 others", 40, 100)
