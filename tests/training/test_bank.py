"""The bank: one loss, one gradient and one update, however many processes own it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from ordclust_ray.core.idfd_losses import decorrelation_loss, instance_discrimination_loss
from ordclust_ray.core.shares import share_edges
from ordclust_ray.training.bank import Bank, gather, gather_rows, random_rows

N, D, B, PIXELS = 103, 6, 13, 10
CPU = torch.device("cpu")
DTYPES = (torch.float64, torch.float32)
CHOSEN = torch.randperm(N, generator=torch.Generator().manual_seed(5))[:B]


class Unit(nn.Linear):
    """A network: unit features of a few pixels."""

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(super().forward(pixels), dim=1)


def network(dtype: torch.dtype = torch.float64) -> Unit:
    torch.manual_seed(3)
    return Unit(PIXELS, D).to(dtype)


def batch() -> Tensor:
    return torch.randn(B, PIXELS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def step(rank: int, size: int, wrapped: nn.Module) -> tuple[Bank, Tensor]:
    """This process's part of a step on the batch: the loss, its gradient, the bank's update."""
    edges = share_edges(B, size)
    own, sizes = slice(edges[rank], edges[rank + 1]), np.diff(edges).tolist()
    bank = Bank(N, D, CPU, seed=1)
    bank.rows = bank.rows.to(next(wrapped.parameters()).dtype)
    features, rows = gather(wrapped(batch()[own].to(bank.rows.dtype)), sizes), gather_rows(CHOSEN[own], sizes)
    assert torch.equal(rows, CHOSEN)
    loss = bank.loss(features, rows, temperature=0.3) + decorrelation_loss(features)
    loss.backward()
    bank.update(features, rows, momentum=0.5)
    return bank, loss.detach()


def _process(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store-{size}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    found = []
    for dtype in DTYPES:
        alone = network(dtype)
        bank, loss = step(rank, size, DistributedDataParallel(alone))
        assert alone.weight.grad is not None
        found.append({"loss": loss, "gradient": alone.weight.grad, "rows": bank.rows, "first": bank.first})
    torch.save(found, f"{folder}/{size}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and updated rows by the formulas, without a bank of ours."""
    whole, rows = network(), random_rows(0, N, D, seed=1).double()
    features = whole(batch())
    logits = features @ rows.T / 0.3
    loss = F.cross_entropy(logits, CHOSEN) + decorrelation_loss(features)
    loss.backward()
    rows[CHOSEN] = F.normalize(0.5 * rows[CHOSEN] + 0.5 * features.detach(), dim=1)
    assert whole.weight.grad is not None
    return loss.detach(), whole.weight.grad, rows


def test_one_process(alone: tuple[Tensor, Tensor, Tensor]) -> None:
    whole = network()
    bank, loss = step(0, 1, whole)
    torch.testing.assert_close((loss, whole.weight.grad, bank.rows), alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [2, 4])
def test_any_number_of_processes(size: int, alone: tuple[Tensor, Tensor, Tensor], tmp_path: Path) -> None:
    spawn(_process, args=(size, str(tmp_path)), nprocs=size)
    found: list[list[dict[str, Any]]] = [torch.load(tmp_path / f"{size}-{rank}.pt") for rank in range(size)]
    for part in (parts[0] for parts in found):
        torch.testing.assert_close((part["loss"], part["gradient"]), alone[:2], rtol=1e-9, atol=1e-12)
    for part in (parts[1] for parts in found):  # in float32 as in training
        assert float(part["loss"]) == pytest.approx(float(alone[0]), rel=1e-5)
        error = (part["gradient"].double() - alone[1]).norm() / alone[1].norm()
        assert float(error) < 1e-5
    parts = [doubles for doubles, _ in found]
    assert [part["first"] for part in parts] == share_edges(N, size)[:-1]
    assert max(len(part["rows"]) for part in parts) <= -(-N // size)  # each holds its share, no more
    torch.testing.assert_close(torch.cat([part["rows"] for part in parts]), alone[2], rtol=1e-9, atol=1e-12)


def test_the_bank_begins_with_random_unit_rows_whoever_owns_them() -> None:
    rows = random_rows(0, 70_000, 4, seed=2)  # two blocks
    assert torch.equal(random_rows(65_000, 66_000, 4, seed=2), rows[65_000:66_000])
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(70_000))
    assert float(rows.mean(dim=0).abs().max()) < 0.01
    assert not torch.equal(random_rows(0, 9, 4, seed=3), rows[:9])


def test_negatives_estimate_the_sum_without_bias() -> None:
    bank = Bank(N, D, CPU, seed=1, negatives=20)
    features, rows = F.normalize(torch.randn(5, D), dim=1), torch.tensor([0, 7, 50, 100, 102])
    exact = (features @ bank.rows.T / 0.5).exp().sum(dim=1)
    torch.manual_seed(0)
    found = torch.stack([bank._estimated(features, rows, 0.5)[0].exp() for _ in range(3000)])
    torch.testing.assert_close(found.mean(dim=0), exact, rtol=0.03, atol=0)
    assert float(found.std(dim=0).min()) > 0.02 * float(exact.min())  # it is an estimate


def test_negatives_have_the_gradient_of_their_estimate() -> None:
    bank = Bank(N, D, CPU, seed=1, negatives=20)
    bank.rows = bank.rows.double()
    rows = torch.tensor([0, 7, 50])

    def loss(features: Tensor) -> Tensor:
        torch.manual_seed(0)
        return bank.loss(features, rows, temperature=0.5)

    features = F.normalize(torch.randn(3, D, dtype=torch.float64), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (features,))


MEMORY = """
import torch
from pathlib import Path
from ordclust_ray.training.bank import Bank
torch.set_num_threads(2)
bank = Bank(1_000_000, 128, torch.device("cpu"), seed=0)
features = torch.nn.functional.normalize(torch.randn(256, 128), dim=1).requires_grad_()
rows = torch.arange(0, 1_000_000, 3907)
loss = bank.loss(features, rows, temperature=1.0)
loss.backward()
bank.update(features, rows, momentum=0.5)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(float(loss), int(status["VmHWM"].removesuffix("kB")) * 1024 / 1e9)  # ru_maxrss would know the parent's too
"""


def test_a_million_instances_fit_into_two_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=200)
    loss, gigabytes = map(float, done.stdout.split())
    assert loss == pytest.approx(np.log(1e6), abs=0.1)
    assert gigabytes < 2.0


def test_alone_the_loss_is_that_of_the_pure_function() -> None:
    bank = Bank(N, D, CPU, seed=1)
    features = F.normalize(torch.randn(B, D), dim=1)
    expected = instance_discrimination_loss(features, bank.rows, CHOSEN, temperature=0.07)
    assert float(bank.loss(features, CHOSEN, temperature=0.07)) == pytest.approx(float(expected))
