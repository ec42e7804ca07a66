"""Sets of photographs and digits: what the papers cluster, and small sets with a rank."""

from ordclust_ray.datasets.cifar import CIFAR10, CIFAR100
from ordclust_ray.datasets.digits import DIGITS
from ordclust_ray.datasets.folders import FOLDER
from ordclust_ray.datasets.imagenet import IMAGENET_10, IMAGENET_DOG
from ordclust_ray.datasets.leaves import COFFEE
from ordclust_ray.datasets.listing import DataSet
from ordclust_ray.datasets.medmnist import MEDMNIST, RETINA
from ordclust_ray.datasets.mnist import FASHION_MNIST
from ordclust_ray.datasets.stl10 import STL10

SETS: tuple[DataSet, ...] = (
    CIFAR10,
    CIFAR100,
    STL10,
    FASHION_MNIST,
    IMAGENET_10,
    IMAGENET_DOG,
    COFFEE,
    RETINA,
    MEDMNIST,
    DIGITS,
    FOLDER,
)
