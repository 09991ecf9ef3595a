"""Several processes train as one does with the whole batch."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from atrous.errors import AtrousError
from atrous.layers import BatchNorm2d
from atrous.training import CHECKPOINT, Recipe, train
from atrous.training.keeping import Keeper
from atrous.training.losses import Loss
from atrous.training.module import Trainee
from atrous.training.parallel import Processes, find_processes, loss_over_all
from atrous.training.samples import EpochSampler, SharedBatches
from atrous.training.synchronised import SynchronisedBatchNorm2d, synchronise
from data_sets import sky_over_ground
from tiny_network import recipe, register_tiny
from together import together


class StoppedError(Exception):
    pass


SHARES = {"even": (2, 2), "uneven": (3, 1), "empty": (2, 0), "one value": (1, 0)}


def part(batch, shares):
    """This process's images of a batch."""
    first = sum(shares[: dist.get_rank()])
    return batch[first : first + shares[dist.get_rank()]]


def norm_and_batch(shares):
    torch.manual_seed(0)
    norm = BatchNorm2d(6, momentum=0.3).double()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    size = (1, 1) if shares == SHARES["one value"] else (5, 7)
    # A mean far above the deviation: sums of squares would lose it in float32.
    return norm, torch.randn(sum(shares), 6, *size, dtype=torch.float64) + 100, torch.randn(6, dtype=torch.float64)


def normalise(norm, x, direction):
    """Output, input gradient, the parameters' gradients, the statistics."""
    x = x.clone().requires_grad_()
    y = norm(x)
    ((y * direction[:, None, None]) ** 3).sum().backward()
    return {
        "y": y.detach(),
        "dx": x.grad,
        "dw": norm.weight.grad,
        "db": norm.bias.grad,
        "mean": norm.running_mean,
        "var": norm.running_var,
    }


def normalise_together(out):
    dist.init_process_group("gloo")
    found = {}
    for name, shares in SHARES.items():
        norm, batch, direction = norm_and_batch(shares)
        model = nn.Sequential(norm)
        synchronise(model)
        assert isinstance(model[0], SynchronisedBatchNorm2d)
        found[name] = normalise(model[0], part(batch, shares), direction)
    torch.save(found, out / str(dist.get_rank()))


def test_batch_norm_sees_the_batch_of_all_processes(tmp_path):
    together(2, normalise_together, tmp_path)
    parts = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    for name, shares in SHARES.items():
        norm, batch, direction = norm_and_batch(shares)
        whole = normalise(norm, batch, direction)
        for key in ("y", "dx"):
            torch.testing.assert_close(torch.cat([part[name][key] for part in parts]), whole[key], msg=f"{name} {key}")
        for key in ("dw", "db"):
            torch.testing.assert_close(sum(part[name][key] for part in parts), whole[key], msg=f"{name} {key}")
        for key in ("mean", "var"):
            for each in parts:
                torch.testing.assert_close(each[name][key], whole[key], msg=f"{name} {key}")


LOSSES = {
    "cross-entropy": Loss(),
    "weighted": Loss({"cross_entropy": 1.0, "focal": 0.5}, class_weights=(1.0, 3.0, 0.2)),
    "hardest pixels": Loss(hardest=0.3),
    "over classes": Loss({"dice": 1.0, "lovasz": 0.7}),
}


def logits_and_labels(shares):
    """The first image is mostly void, and the second one all of it: a mean of means is far from the whole's mean."""
    torch.manual_seed(1)
    logits = torch.randn(sum(shares), 3, 4, 5, dtype=torch.float64)
    labels = torch.randint(0, 3, (sum(shares), 13, 17), dtype=torch.uint8)
    labels[0, 1:] = 255
    labels[1:2] = 255
    return logits, labels


def judge_together(out):
    dist.init_process_group("gloo")
    found = {}
    for name, loss in LOSSES.items():
        for shares in ((2, 2), (1, 2), (3, 0), (1, 1)):
            logits, labels = (part(tensor, shares) for tensor in logits_and_labels(shares))
            logits = logits.clone().requires_grad_()
            value = loss_over_all(loss, logits, labels)
            value.backward()
            found[name, shares] = value.detach(), logits.grad
    torch.save(found, out / str(dist.get_rank()))


def test_a_loss_is_over_the_pixels_of_all_processes(tmp_path):
    together(2, judge_together, tmp_path)
    parts = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    for (name, shares), (first, _) in parts[0].items():
        logits, labels = logits_and_labels(shares)
        value = LOSSES[name](logits.requires_grad_(), labels)
        value.backward()
        torch.testing.assert_close((first + parts[1][name, shares][0]) / 2, value.detach(), msg=f"{name} {shares}")
        gradient = torch.cat([part[name, shares][1] for part in parts]) / 2
        torch.testing.assert_close(gradient, logits.grad, msg=f"{name} {shares}")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Nine photos, some void: of an epoch's third batch, one photo, the second of two processes has none."""
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 9, "val": 3})


def train_tiny(data, out, precision, changes, options):
    register_tiny()
    # In double precision a wrong gradient cannot be taken for rounding.
    sys.modules["atrous.training.train"].lightning_precision = lambda *_: precision
    seeds, plain = [], Trainee.loss

    def loss(self, *batch):
        seeds.append(torch.initial_seed())
        return plain(self, *batch)

    Trainee.loss = loss
    train(Recipe.model_validate(recipe(**changes)), data, out, workers=0, device="cpu", **options)
    out.with_name(f"{out.name}-{os.environ['RANK']}.json").write_text(json.dumps(seeds))


def state(folder):
    return torch.load(folder / CHECKPOINT, weights_only=True)["state_dict"]


def metrics(folder):
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [[float(row[key]) for key in ("loss", "miou", "learning_rate")] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """One process's run, by precision."""
    folder = tmp_path_factory.mktemp("alone")
    for precision in ("64-true", "32-true"):
        together(1, train_tiny, data, folder / precision, precision, {}, {})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "strategy", "tolerance"),
    [("64-true", "ddp", 1e-9), ("32-true", "ddp", 1e-5), ("32-true", "fsdp", 1e-5)],
)
def test_two_processes_train_as_one_with_the_whole_batch(data, tmp_path, alone, precision, strategy, tolerance):
    """With void, two outputs that are judged, a moving average, and a last batch that is too small for both."""
    together(2, train_tiny, data, tmp_path / "two", precision, {}, {"strategy": strategy})
    one, two = state(alone / precision), state(tmp_path / "two")
    assert one.keys() == two.keys()
    torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance)
    seeds = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    assert len({*seeds[0], *seeds[1]}) == 2 * 2 * 3, "dropout would be the same in two processes or two steps"
    assert metrics(tmp_path / "two") == [pytest.approx(row, rel=tolerance) for row in metrics(alone / precision)]


def train_an_epoch(data, out, precision, changes, options):
    """As `train_tiny`, but for all epochs after the first."""

    def end(self, trainer, trainee):
        if trainer.current_epoch == 1:
            raise StoppedError

    Keeper.on_train_epoch_start = end
    with pytest.raises(StoppedError):
        train_tiny(data, out, precision, changes, options)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(data, tmp_path, alone):
    """Its checkpoint holds all of the weights and of the optimiser's state, though no process did."""
    together(2, train_an_epoch, data, tmp_path / "out", "32-true", {}, {"strategy": "fsdp"})
    assert len(metrics(tmp_path / "out")) == 1
    together(1, train_tiny, data, tmp_path / "out", "32-true", {}, {"resume": True})
    torch.testing.assert_close(state(tmp_path / "out"), state(alone / "32-true"), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_command_starts_as_many_processes_as_it_is_told(data, tmp_path, alone):
    """One of them writes and speaks; at their end they are no longer joined, else gloo may abort one."""
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit\n"
        "import torch.distributed as dist\n"
        "from atrous.cli.main import main\n"
        "from tiny_network import register_tiny\n"
        "atexit.register(lambda: print('joined:', dist.is_initialized()))\n"
        "register_tiny()\n"
        "main()\n"
    )
    (tmp_path / "tiny.yaml").write_text(json.dumps(recipe()))
    out = tmp_path / "out"
    command = [sys.executable, program, "train", tmp_path / "tiny.yaml", "--data", data, "--out", out]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    clean = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    done = subprocess.run(
        [*map(str, command), "--workers", "0", "--device", "cpu", "--devices", "2"],
        env={**clean, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the model is in") == 1
    assert done.stdout.count("joined: False") == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    torch.testing.assert_close(state(out), state(alone / "32-true"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"devices": 3}, "batch_size: 4 photos cannot be shared evenly by 3 processes"),
        ({}, {"devices": 0}, "--devices 0 --nodes 1: give at least one of each"),
        ({}, {"strategy": "fsdp"}, "fsdp shares one model out over several devices"),
        ({}, {"strategy": "zero"}, "--strategy zero: give auto, ddp or fsdp"),
        ({"compile": True}, {"devices": 2, "strategy": "fsdp"}, "compile: not with --strategy fsdp"),
        (
            {"precision": "fp16"},
            {},
            "precision: fp16 needs a CUDA GPU, and this run is on cpu; give auto",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_step(data, tmp_path, changes, options, message):
    settings = Recipe.model_validate(recipe(**changes, model={"name": "deeplabv3_mobilenet_v2_050"}))
    with pytest.raises(AtrousError, match=message):
        train(settings, data, tmp_path / "out", device="cpu", **options)
    assert not (tmp_path / "out").exists()


def test_torchrun_says_how_many_there_are(monkeypatch):
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(key, value)
    assert find_processes() == Processes(devices=4, nodes=2)
    with pytest.raises(AtrousError, match="4 on each of 2 machines were started; leave both out"):
        find_processes(2)


def test_slurm_says_how_many_there_are(monkeypatch):
    for key, value in {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}.items():
        monkeypatch.setenv(key, value)
    assert find_processes() == Processes(devices=4, nodes=2)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(AtrousError, match="--ntasks=8: say --nodes and --ntasks-per-node instead"):
        find_processes()
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # a shell on a node, from which no srun was called
    assert find_processes(2) == Processes(2)
    monkeypatch.delenv("SLURM_JOB_NAME")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a job of one task, which starts the others itself
    assert find_processes(2) == Processes(2)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_shares_are_together_the_batches_of_one_process(processes):
    sampler = EpochSampler(10, seed=1)
    whole = list(SharedBatches(sampler, 4))
    shares = [list(SharedBatches(sampler, 4, rank, processes)) for rank in range(processes)]
    assert [len(batch) for batch in whole] == [4, 4, 2]
    for index, batch in enumerate(whole):
        assert sorted(number for share in shares for number in share[index]) == sorted(batch)
        assert max(len(share[index]) for share in shares) - min(len(share[index]) for share in shares) <= 1
