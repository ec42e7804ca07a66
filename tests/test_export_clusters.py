"""`jobs/export_clusters.py` as a user runs it: tables, images most typical first, and a page that a browser shows."""

import base64
import json
import re
import shutil
from io import BytesIO
from pathlib import Path

import export_clusters
import job
import numpy as np
import pandas as pd
import pytest
from conftest import ClusterRun
from page import browse, needs_chromium
from PIL import Image
from sklearn.datasets import load_digits

from ordclust_ray.config import ClusterFeaturesConfig, IdfdConfig, KMeansConfig, UnlabelledConfig
from ordclust_ray.reports.results import Results
from ordclust_ray.run import kept

SCRIPT = "<script>alert(1)</script>"
COLOURS = [(200, 30, 30), (30, 160, 30), (30, 30, 200)]


@pytest.fixture(scope="module")
def digits_export(cluster: dict[str, str], cluster_run: ClusterRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by its name, with copies of five images a cluster."""
    output = tmp_path_factory.mktemp("exports") / "digits"
    which = ["--run", "undisturbed", "--storage", str(cluster_run.storage), "--output", str(output)]
    said = job.run("export_clusters.py", *which, "--images", "copies", "--images-per-cluster", "5", env=cluster)
    assert "1797 images in 2 clusters; 0 of them are gone" in said
    assert "10 copies were written, 0 could not be" in said
    assert f"the page: {output / 'index.html'}" in said
    return output


def test_tables_hold_every_image_once(digits_export: Path, cluster_run: ClusterRun) -> None:
    rows = pd.read_parquet(digits_export / "assignments.parquet")
    pd.testing.assert_frame_equal(pd.read_csv(digits_export / "assignments.csv"), rows, check_dtype=False, atol=1e-6)
    run = job.assignments(cluster_run.storage / "undisturbed")
    by_id = rows.set_index("instance_id").sort_index()
    pd.testing.assert_frame_equal(by_id[run.columns], run)
    for _, own in rows.groupby("cluster"):
        assert own["place"].tolist() == list(range(len(own)))
        assert own["similarity"].is_monotonic_decreasing
    assert rows["cluster"].is_monotonic_increasing


def test_copies_are_the_most_typical_digits(digits_export: Path) -> None:
    rows = pd.read_parquet(digits_export / "assignments.parquet")
    pixels = (load_digits().images * (255 / 16)).round()
    for cluster in range(2):
        files = sorted((digits_export / f"cluster_{cluster}").iterdir())
        first = rows[rows["cluster"] == cluster]["instance_id"].tolist()[:5]
        assert [file.name for file in files] == [f"{place:06d}_{i}.png" for place, i in enumerate(first)]
        with Image.open(files[0]) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels[first[0]])


@pytest.mark.browser
@needs_chromium
def test_page_of_ranked_clusters(digits_export: Path, tmp_path: Path) -> None:
    rows = pd.read_parquet(digits_export / "assignments.parquet")
    page = browse((digits_export / "index.html").as_uri(), tmp_path, "--dump-dom")
    assert "<h1>Clusters of undisturbed</h1>" in page
    for cluster, own in rows.groupby("cluster"):
        assert f"<h2>Cluster {cluster}</h2>\n<p>{len(own):,} images, {len(own) / len(rows):.1%} of all</p>" in page
        assert f'title="rank 3: {(own["rank"] == 3).sum()} images"' in page
    typical = rows.groupby(["cluster", "rank"]).head(4)
    assert shown(page) == len(typical) + 2 * 12
    assert page.count("<h3>Borderline images</h3>") == 2
    closest = rows[rows["cluster"] == 1].nsmallest(1, "margin").iloc[0]
    assert f"image {closest['instance_id']}</span>" in page.split("Cluster 1</h2>")[1].split("Borderline images")[1]


def shown(page: str) -> int:
    """Images in a page, each of which can be decoded; nothing comes from elsewhere."""
    sources = re.findall(r'<img [^>]*?src="([^"]*)"', page)
    assert len(sources) == page.count("<img")
    assert not re.search(r"(href|src)=\"(?!#|data:)|url\(|@import|<script|<link", page)
    for source in sources:
        with Image.open(BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,")))) as image:
            image.load()
    return len(sources)


@pytest.fixture
def folder_run(tmp_path: Path) -> Path:
    """A finished run of IDFD on 30 files of three colours, whose folders name the class of each; moved since."""
    rows = []
    for i in range(30):
        kind = ("red", SCRIPT.replace("/", "-"), "blue")[i % 3]
        (tmp_path / "now" / kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), COLOURS[i % 3]).save(tmp_path / "now" / kind / f"{i:02d}.PNG")
        rows.append((str(tmp_path / "then" / kind / f"{i:02d}.PNG"), kind, i % 3, 1 - i / 40, (i + 1) % 3, i / 50))
    columns = ["source", "label", "cluster", "distance", "second", "margin"]
    table = pd.DataFrame(rows, columns=columns).sort_values("source", ignore_index=True)
    run = tmp_path / "run"
    (run / "results").mkdir(parents=True)
    table.rename_axis("instance_id").to_parquet(run / "results" / "assignments.parquet")
    Results({"IDFD": {"ACC": 1.0}}, [10, 10, 10]).write(run / "results")
    config = IdfdConfig(
        data=UnlabelledConfig(path="then", label_column="folder"), clustering=KMeansConfig(num_clusters=3)
    )
    (run / "config.json").write_text(json.dumps(kept(config)))
    (run / "data.json").write_text(json.dumps({"path": str(tmp_path / "then"), "images": 30, "sha256": ""}))
    (tmp_path / "now" / "red" / "27.PNG").unlink()  # the most typical of its cluster
    return run


@pytest.mark.browser
@needs_chromium
def test_folder_of_images_with_classes(folder_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    flags = ["--run", str(folder_run), "--path", str(tmp_path / "now"), "--output", str(output), "--images", "links"]
    said = job.run("export_clusters.py", *flags, env=job.environment())
    assert "30 images in 3 clusters; 1 of them are gone" in said
    assert "29 links were written, 1 could not be" in said
    assert pd.read_csv(output / "not_written.csv")["source"].tolist() == [str(tmp_path / "then" / "red" / "27.PNG")]
    links = sorted((output / "cluster_0").iterdir())
    assert [link.resolve().stem for link in links] == [f"{i:02d}" for i in range(24, -1, -3)]
    assert [link.name[:6] for link in links] == [f"{place:06d}" for place in range(1, 10)]
    index = (output / "index.html").as_uri()
    page = browse(index, tmp_path / "chromium", "--dump-dom")
    assert "&lt;script&gt;alert(1)&lt;-script&gt;" in page
    assert shown(page) == 2 * 29  # all are typical, and all borderline
    assert page.count('class="gone"') == 2
    assert "100% blue" in page
    for width in (1400, 600):
        picture = tmp_path / f"{width}.png"
        size = f"--window-size={width},4800"
        browse(index, tmp_path / "chromium", "--hide-scrollbars", size, f"--screenshot={picture}")
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        for colour, images in zip(COLOURS, (18, 20, 20), strict=True):
            found = (np.abs(pixels - colour).max(axis=2) <= 6).sum()
            assert images * 96**2 * 0.95 < found < images * 96**2 * 1.05, (width, colour)


def refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one line that refuses."""
    with pytest.raises(SystemExit) as ended:
        export_clusters.main(list(flags))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_refusals_are_one_line(folder_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*flags: str) -> str:
        return refusal(capsys, *flags)

    run, now, storage = ["--run", str(folder_run)], tmp_path / "now", ["--storage", str(tmp_path)]
    output = ["--output", str(tmp_path / "output")]
    assert "--run is missing" in refused(*output)
    assert "--output is missing" in refused(*run)
    assert "--run is 'no-body'; it must be" in refused("--run", "no-body", *output, *storage)
    assert "--images-per-cluster is 3, which means nothing" in refused(*run, *output, "--images-per-cluster", "3")
    assert "--images-per-cluster is -1; it must be at least 0" in refused("--images-per-cluster", "-1")
    gone = refused(*run, *output)
    assert "there is no such file or folder; --path may say where they are now" in gone
    assert "then" in gone
    among = refused(*run, "--path", str(now), "--output", str(now / "output"))
    assert "lies among the images" in among
    full = refused(*run, "--path", str(now), "--output", str(tmp_path))
    assert f"--output '{tmp_path}' holds files already" in full
    empty = tmp_path / "others"
    empty.mkdir()
    shutil.copy(now / "red" / "00.PNG", empty / "other.png")
    assert "none of the run's images are in" in refused(*run, *output, "--path", str(empty))
    (folder_run / "config.json").write_text(json.dumps(kept(ClusterFeaturesConfig())))
    assert "it must be of drc-orid or idfd" in refused(*run, *output)
    assert not (tmp_path / "output").exists()


def test_digits_have_no_files_to_link(
    cluster_run: ClusterRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--run", str(cluster_run.storage / "undisturbed"), "--output", str(tmp_path / "x"), "--images", "links"]
    assert "it must be copies or none" in refusal(capsys, *flags)
    assert list(tmp_path.iterdir()) == []
