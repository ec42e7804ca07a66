"""The paper's CIFAR-10 protocol in one command, beside its table 1; for a GPU, and without Ray.

`python benchmarks/idfd_cifar10.py --data ../shared/data --output cifar10_idfd [--variant idfd] [--epochs 2000]`

ResNet18 with the 3 x 3 stem, the 50,000 training images, SGD, batch 128; k-means (20 starts) on the bank now and then.
The same command goes on where the last one stopped; `--max-epochs` stops early, with the schedule of all epochs.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.parquet_images import read
from ordclust_ray.config import IdfdConfig
from ordclust_ray.recipes.idfd import cifar10
from ordclust_ray.training.checkpoint import load_bank, restore_training, save_bank, save_training
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.idfd_run import Idfd, ImagesInMemory

CLASSES = 10
TABLE_1 = {  # best values of the paper, in per cent: ACC, NMI, ARI
    "id-original": (44.0, 30.9, 22.1),
    "id-tuned": (77.6, 68.2, 61.6),
    "idfo": (82.8, 71.4, 67.9),
    "idfd": (81.5, 71.1, 66.3),
}
NEWEST = "newest"


def settings(options: argparse.Namespace) -> IdfdConfig:
    recipe = cifar10()
    return replace(
        recipe,
        model=replace(recipe.model, network=options.network, width=options.width),
        augmentation=replace(recipe.augmentation, flip=options.flip),
        loss=replace(recipe.loss, variant=options.variant),
        clustering=replace(recipe.clustering, every=options.every),
        training=replace(
            recipe.training,
            epochs=options.epochs,
            batch_size=options.batch_size,
            precision=options.precision,
            compile=options.compile,
        ),
        run=replace(recipe.run, seed=options.seed),
    )


def refuse_other_settings(config: IdfdConfig, images: int, output: Path) -> None:
    """A folder goes on with the settings that it was started with."""
    file, now = output / "config.json", config.flat() | {"images": images}
    if file.exists() and (before := json.loads(file.read_text())) != now:
        changed = ", ".join(f"{name} was {before.get(name)!r}" for name in now if before.get(name) != now[name])
        raise SystemExit(f"error: {output} was started with other settings: {changed}; choose another --output")
    file.write_text(json.dumps(now, indent=1))


def save(model: Idfd, output: Path) -> None:
    """A checkpoint, whole or not at all: the link moves last."""
    folder = output / f"epoch-{len(model.history):05d}"
    if (output / NEWEST).resolve() == folder.resolve():
        return  # it is there already
    folder.mkdir(exist_ok=True)
    save_bank(folder, 0, model.trainer.bank.rows)
    centroids = None if model.clusters is None else torch.from_numpy(model.clusters.centroids)
    save_training(folder, model.trainer.state_dict(), model.history, centroids)
    link = output / f"{NEWEST}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(output / NEWEST)
    for old in sorted(output.glob("epoch-*"))[:-2]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def resume(model: Idfd, output: Path) -> None:
    """Goes on from the newest checkpoint, where there is one."""
    folder = output / NEWEST
    if folder.exists():
        state, model.history, _ = restore_training(folder, model.trainer.device)
        model.trainer.load_state_dict(state)
        model.trainer.bank.rows = load_bank(folder, 0, model.trainer.bank.num_rows).to(model.trainer.device)


def train(model: Idfd, output: Path, options: argparse.Namespace) -> None:
    """Epochs up to the end or the limit, with a line for each evaluation."""
    last = min(options.epochs, options.max_epochs or options.epochs)
    started, deadline = time.monotonic(), options.minutes * 60 or float("inf")
    while len(model.history) < last and time.monotonic() - started < deadline:
        record = model.run_epoch()
        if "acc" in record:
            tell(record)
        if record["epoch"] % options.every == 0 or record["epoch"] == last:
            save(model, output)
    save(model, output)
    (output / "history.json").write_text(json.dumps(model.history, indent=1))


def tell(record: dict[str, Any]) -> None:
    shown = "   ".join(f"{name.upper()} {record[name]:6.1%}" for name in ("acc", "nmi", "ari"))
    speed = f"{record['images_per_second']:,.0f} images/s"
    print(f"epoch {record['epoch']:5d}   {shown}   silhouette {record['silhouette']:.2f}   {speed}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10_train_*.parquet")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoints and history.json")
    parser.add_argument("--variant", choices=[*TABLE_1], default="idfd")
    parser.add_argument("--epochs", type=int, default=2_000, help="of the schedule")
    parser.add_argument("--max-epochs", type=int, default=0, help="stop after these; 0: all")
    parser.add_argument("--minutes", type=float, default=0, help="stop after these; 0: never")
    parser.add_argument("--every", type=int, default=20, help="epochs between evaluations, and checkpoints")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--flip", action="store_true", help="random flips, which the paper's code lacks")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default=None, help="bfloat16 on a GPU")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--images", type=int, default=0, help="only the first ones; 0: all 50,000")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.precision = options.precision or ("bfloat16" if device.type == "cuda" else "float32")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(options.seed)
    files = sorted(options.data.glob("cifar10_train_*.parquet"))
    if not files:
        raise SystemExit(f"error: {options.data} holds no cifar10_train_*.parquet")
    images, labels = read(files, options.images)
    options.output.mkdir(parents=True, exist_ok=True)
    data = ImagesInMemory(torch.from_numpy(images).to(device), torch.arange(len(images), device=device))
    config = settings(options)
    refuse_other_settings(config, len(images), options.output)
    model = Idfd(config, CLASSES, labels, data, IdfdTrainer(config, len(images), device))
    resume(model, options.output)
    print(f"{len(images)} images, {device}, torch {torch.__version__}; from epoch {len(model.history)}", flush=True)
    train(model, options.output, options)
    best = zip(("ACC", "NMI", "ARI"), TABLE_1[options.variant], strict=True)
    paper = "   ".join(f"{name} {value}%" for name, value in best)
    print(f"the paper, best of 2,000 epochs: {paper}")


if __name__ == "__main__":
    main()
