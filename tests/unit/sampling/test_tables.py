"""The tables of samplers and schedules: names, parameters, code."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import pytest
import torch
from tests.unit.sampling.drive import drive

from safelight.core.parameters import Parameter
from safelight.core.samplers import SamplerRecord, complete_options, sampler_table
from safelight.core.schedules import AUTOMATIC, schedule_table, split_name
from safelight.engine.sampling.step import Move, Moved
from safelight.engine.sampling.table import plan_of, sampler_of, schedule_of
from safelight.errors import InvalidRequest

SAMPLERS, SCHEDULES = list(sampler_table()), list(schedule_table())


@pytest.mark.parametrize("record", SAMPLERS, ids=lambda record: record.id)
def test_a_samplers_code_is_a_generator_with_a_source(record):
    step = sampler_of(record, Move(1.0, 0.5))
    assert inspect.isgeneratorfunction(step)
    assert "et al." in step.__doc__ or "Hairer" in step.__doc__
    moves = plan_of(record)([3.0, 1.0, 0.0], complete_options(record, {}))
    assert [(move.sigma, move.sigma_next) for move in moves] == [(3.0, 1.0), (1.0, 0.0)]


@pytest.mark.parametrize("record", SCHEDULES, ids=lambda record: record.id)
def test_a_schedules_code_is_a_function(record):
    assert (record.code is None) == (record.id == AUTOMATIC)
    if record.code:
        assert schedule_of(record).__module__ == "safelight.engine.sampling.schedules"


@pytest.mark.parametrize("records", [SAMPLERS, SCHEDULES])
def test_every_name_is_one_records(records):
    """The registry refuses a name twice; a label, too, finds its record."""
    table = sampler_table() if records is SAMPLERS else schedule_table()
    for record in records:
        for name in (record.id, record.label, *record.aliases):
            assert table.get(name) == record
            assert table.get(name.upper()) == record
    names = [name.casefold() for record in records for name in (record.id, *record.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Euler", "euler"),
        ("Euler a", "euler_ancestral"),
        ("Heun", "heun"),
        ("LMS", "lms"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("DPM++ 2M SDE", "dpmpp_2m_sde"),
        ("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun"),
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
        ("k_euler_a", "euler_ancestral"),
        ("DDIM", "ddim"),
    ],
)
def test_the_names_of_others_are_known(name, id):
    assert sampler_table().get(name).id == id


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Normal", "normal"),
        ("Uniform", "normal"),
        ("Karras", "karras"),
        ("Exponential", "exponential"),
        ("SGM Uniform", "sgm_uniform"),
        ("Simple", "simple"),
        ("DDIM", "ddim_uniform"),
        ("Automatic", "automatic"),
    ],
)
def test_the_schedules_of_others_are_known(name, id):
    assert schedule_table().get(name).id == id


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential"),
        ("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun", None),
        ("Euler a SGM Uniform", "euler_ancestral", "sgm_uniform"),
        ("euler", "euler", None),
    ],
)
def test_old_names_end_in_their_schedule(name, sampler, schedule):
    found, its = split_name(name, sampler_table(), schedule_table())
    assert (found.id, its and its.id) == (sampler, schedule)


def test_an_unknown_name_says_the_nearest():
    with pytest.raises(InvalidRequest, match="eulr") as refused:
        split_name("eulr a", sampler_table(), schedule_table())
    assert "euler_ancestral" in refused.value.hint


def test_a_line_and_a_function_make_a_sampler():
    """What an extension does before the table closes."""
    table = sampler_table()
    record = table.register(SamplerRecord(id="once", label="Once", code=f"{__name__}:once"))
    table.close()
    with pytest.raises(ValueError, match="closed"):
        table.register(record)
    assert "once" not in sampler_table()
    sys.modules.setdefault(__name__, sys.modules[once.__module__])
    found = drive(table.get("ONCE"), lambda x, sigma: x / 2, [1.0, 0.0], torch.ones(1))
    assert found.x.item() == 0.5


def once(step):
    """To the clean latent at once."""
    from safelight.engine.sampling.step import Query

    return Moved((yield Query(step.x, step.sigma)).guided)


@pytest.mark.parametrize("record", [*SAMPLERS, *SCHEDULES], ids=lambda record: f"{type(record).__name__}-{record.id}")
def test_defaults_are_allowed_and_complete(record):
    options = complete_options(record, {})
    assert options == {parameter.name: parameter.default for parameter in record.parameters}
    assert complete_options(record, options) == options
    assert all(parameter.help for parameter in record.parameters)


def test_given_options_are_checked_all_at_once():
    record = sampler_table().get("dpmpp_2m_sde")
    with pytest.raises(InvalidRequest) as refused:
        complete_options(record, {"etta": 1, "eta": 2.0, "solver": "rk4", "s_noise": "1"}, at="sampler_options")
    found = {error.path: f"{error.message}. {error.hint}" for error in refused.value.errors}
    assert "Did you mean 'eta'" in found["sampler_options.etta"]
    assert "2.0 is not a number from 0 to 1" in found["sampler_options.eta"]
    assert "'rk4' is not one of midpoint, heun" in found["sampler_options.solver"]
    assert "'1' is not a number" in found["sampler_options.s_noise"]
    assert len(found) == 4


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        ("int", 3, 3),
        ("int", 3.0, 3),
        ("int", 3.5, None),
        ("int", True, None),
        ("int", 11, None),
        ("float", 3, 3.0),
        ("float", math.nan, None),
        ("float", math.inf, None),
        ("float", "3", None),
        ("float", -0.1, None),
        ("bool", True, True),
        ("bool", 1, None),
        ("choice", "a", "a"),
        ("choice", "A", None),
    ],
)
def test_a_parameter_reads_its_own_type(kind, given, read):
    found = Parameter("p", kind, 0, 0, 10, choices=("a", "b") if kind == "choice" else ()).read(given)
    assert found == read
    assert type(found) is type(read)


def test_churn_is_refused_on_a_flow_path():
    record = sampler_table().get("euler")
    assert complete_options(record, {"s_churn": 3.0}, path="ve")["s_churn"] == 3.0
    assert complete_options(record, {"s_churn": 0.0}, path="flow")["s_churn"] == 0.0
    with pytest.raises(InvalidRequest, match=r"s_churn: 3\.0 has no meaning on the flow noise path"):
        complete_options(record, {"s_churn": 3.0}, path="flow")


def test_the_tables_need_no_torch():
    code = (
        "import sys, safelight.core.samplers as s, safelight.core.schedules as c; "
        "s.sampler_table(), c.schedule_table(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
