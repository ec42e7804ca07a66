"""What a trained model says of new images: `python jobs/predict.py --model RUN --path IMAGES --output FOLDER`."""

import gc
import sys
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import InputError, PredictConfig, RunConfig

RECIPES = {"default": PredictConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import pyarrow.dataset as ds

from ordclust_ray.data.readers import open_source
from ordclust_ray.finished import RESULTS, find_run
from ordclust_ray.models import MODEL, describe_model
from ordclust_ray.predictions import predict
from ordclust_ray.run import start_ray


def main(arguments: list[str]) -> None:
    _, config = parse(RECIPES, "default", arguments)
    try:
        config.require()
        model = find_run(config.model, "model", RunConfig()) / RESULTS / MODEL
        describe_model(model)
        output = Path(config.output).expanduser().absolute()
        source = open_source(config.images)
        start_ray()
        predict(source, model, output, config.max_pixels)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on")
    clusters = ds.dataset(output, format="parquet").to_table(columns=["cluster"])["cluster"].to_numpy()
    print(f"{len(clusters)} images, {int((clusters < 0).sum())} of them broken, are in {output}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
