"""Trainings survive being killed: what goes on from a state ends where an undisturbed one does."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from torch import nn
from training.diffusion import draw_timesteps, noise_levels, noised
from training.muon import Muon, orthogonalised
from training.runs import Run


def begun(folder, network: nn.Module) -> Run:
    return Run(folder, list(network.parameters()), minutes=1, learning_rate=0.01, seed=4, matrices=[network.weight])


def train(run: Run, network: nn.Module, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(8, 3) * run.rng.random()
        run.update((network(x) - x.sum(-1, keepdim=True)).square().mean(), 0.01)
        run.step += 1


def test_a_resumed_run_ends_bit_for_bit_where_an_undisturbed_one_does(tmp_path):
    undisturbed = nn.Linear(3, 1)
    first, second = copy.deepcopy(undisturbed), copy.deepcopy(undisturbed)
    whole = begun(tmp_path / "a", undisturbed)
    train(whole, undisturbed, 30)
    run = begun(tmp_path / "b", first)
    train(run, first, 12)
    run.save()
    (tmp_path / "b" / "state.partial").write_bytes(b"half a state, left by a kill")
    again = begun(tmp_path / "b", second)
    assert again.resume()
    train(again, second, 18)
    assert again.step == 30
    assert all(torch.equal(a, b) for a, b in zip(undisturbed.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.average, again.average, strict=True))


def test_there_is_nothing_to_resume_in_a_new_folder(tmp_path):
    assert not begun(tmp_path, nn.Linear(1, 1)).resume()


def test_the_average_is_lent_and_given_back(tmp_path):
    network = nn.Linear(3, 1)
    run = begun(tmp_path, network)
    train(run, network, 20)
    trained = network.weight.detach().clone()
    with run.averaged():
        assert torch.equal(network.weight, run.average[0])
        assert not torch.equal(network.weight, trained)
    assert torch.equal(network.weight, trained)


def test_the_rate_rises_stays_and_falls_to_nothing(tmp_path):
    run = begun(tmp_path, nn.Linear(1, 1))
    assert run.rate() == pytest.approx(0.01 / 100)
    run.step = 1000
    assert run.rate() == pytest.approx(0.01)
    run.spent = 40.0
    assert run.rate() == pytest.approx(0.005)
    run.spent = 60.0
    assert run.rate() == pytest.approx(0.0, abs=1e-9)


def test_noise_levels_are_diffusers_own_with_nothing_left_at_the_end():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    expected = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)
    assert torch.allclose(noise_levels(), expected, atol=1e-5)
    assert noise_levels()[-1] == 0


def test_at_the_last_timestep_the_network_sees_only_noise_and_says_the_picture():
    latents, noise = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    shown, wanted = noised(latents, noise, noise_levels()[[999]])
    assert torch.equal(shown, noise)
    assert torch.equal(wanted, -latents)


def test_timesteps_cover_all_and_favour_where_structure_forms():
    torch.manual_seed(0)
    drawn = torch.cat([draw_timesteps(64) for _ in range(100)])
    assert drawn.min() < 50
    assert drawn.max() > 980
    assert 0.5 < (drawn > 750).float().mean() < 0.7


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_orthogonalising_brings_singular_values_near_one(shape):
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_moves_every_matrix_by_what_adamw_would(tmp_path):
    kernel = nn.Parameter(torch.zeros(8, 4, 3, 3))
    optimiser = Muon([kernel], lr=0.1)
    kernel.grad = torch.randn_like(kernel) * 1e-3
    optimiser.step()
    assert 0.1 * 0.2 * 0.5 < kernel.square().mean().sqrt() < 0.1 * 0.2 * 2
    assert (kernel * kernel.grad).sum() < 0, "not downhill"


TOGETHER = """
import sys, torch
from pathlib import Path
from training.runs import Company, Run
company, folder = Company.join(), Path(sys.argv[1])
torch.set_num_threads(1)
network = torch.nn.Linear(3, 1)
with torch.no_grad():
    network.weight.zero_()
    network.bias.zero_()
run = Run(folder, list(network.parameters()), minutes=0.02, learning_rate=0.01, seed=4, company=company)
first = torch.rand(1)
for rate in run.ticks():
    x = torch.randn(8, 3)
    run.update((network(x) - x.sum(-1, keepdim=True)).square().mean(), rate)
torch.save((first, network.weight.detach(), run.step), folder / f"rank{company.rank}.pt")
"""


def test_processes_that_train_together_see_other_things_and_end_with_one_model(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path)], env=environment, check=True, capture_output=True, timeout=120)
    (seen, weights, steps), (other_seen, other_weights, other_steps) = (
        torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)
    )
    assert not torch.equal(seen, other_seen)
    assert steps == other_steps > 0
    assert torch.equal(weights, other_weights)
    assert torch.load(tmp_path / "state.pt", weights_only=False)["step"] == steps
