"""What a trained model says of new images: `python jobs/predict.py --model RUN --path IMAGES --output FOLDER`."""

import gc
import sys
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import DrcConfig, IdfdConfig, InputError, PredictConfig, SelectConfig

RECIPES = {"default": PredictConfig}
PREDICTS = (SelectConfig.system, DrcConfig.system, IdfdConfig.system)

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

from ordclust_ray.data.readers import open_source, refuse_among_images
from ordclust_ray.finished import find_run, model_of
from ordclust_ray.predictions import predict
from ordclust_ray.run import start_ray


def main(arguments: list[str]) -> None:
    _, config = parse(RECIPES, "default", arguments)
    try:
        config.require()
        model = model_of(find_run(config.model, "model", config.record), PREDICTS, "model")
        output = Path(config.output).expanduser().absolute()
        refuse_among_images(output, config.path)
        source = open_source(config.images)
        start_ray()
        broken = predict(source, model, output, config.images)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on")
    print(f"{len(source.manifest)} images, {broken} of them broken, are in {output}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
