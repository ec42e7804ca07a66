"""Clusters of new images by a trained IDFD: `python jobs/predict.py --model RUN --path IMAGES --output FOLDER`."""

import gc
import sys
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import InputError, PredictConfig

RECIPES = {"default": PredictConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import pyarrow.dataset as ds

from ordclust_ray.assignment import MODEL, assign_images, describe_model
from ordclust_ray.data.readers import open_source
from ordclust_ray.run import start_ray


def main(arguments: list[str]) -> None:
    _, config = parse(RECIPES, "default", arguments)
    try:
        config.require()
        run, output = (Path(name).expanduser().absolute() for name in (config.model, config.output))
        describe_model(model := run / "results" / MODEL)
        if output.is_file() or (output.exists() and any(output.iterdir())):
            raise InputError(f"--output {config.output!r} holds files already; name another folder")
        source = open_source(config.images)
        start_ray()
        assign_images(source, model, output, config.max_pixels)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted")
    table = ds.dataset(output).to_table(columns=["cluster"]).to_pandas()
    broken = int((table["cluster"] < 0).sum())
    print(f"{len(table)} images, {broken} of them broken, are in {output}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
