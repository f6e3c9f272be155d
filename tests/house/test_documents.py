"""What is documented is what there is: every operation, event, setting and command, fresh and in full."""

from __future__ import annotations

import ast

import pytest
from docs import generate
from tests.house.source import dotted, modules

from safelight.cli.main import safelight as command_line
from safelight.core.events import EVENT_HELP, EventKind
from safelight.core.guidances import guidance_table
from safelight.core.operations.contract import Contract, operation_table
from safelight.core.parameters import complete_options
from safelight.core.samplers import sampler_table
from safelight.core.schedules import schedule_table
from safelight.settings import setting_table

OPERATIONS = [spec.id for spec in operation_table()]


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_file_is_fresh(name):
    path = generate.ROOT / name
    assert path.is_file() and path.read_text("utf-8") == generate.PAGES[name](), "stale: run `make docs`"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_has_an_example_that_the_contract_takes(operation):
    body = generate.example(operation)
    assert body["operation"] == operation
    parsed = Contract(operation_table()).parse(body)
    assert {name: value for name, value in parsed.model_dump(mode="json").items() if name in body} == body


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_field_of_an_operation_says_what_it_is(operation):
    fields = operation_table().get(operation).request.model_fields
    silent = [name for name, field in fields.items() if name != "operation" and not field.description]
    assert not silent


def test_no_example_is_left_over():
    assert sorted(path.stem for path in generate.EXAMPLES.glob("*.json")) == sorted(OPERATIONS)


def test_every_event_says_what_it_carries():
    assert set(EVENT_HELP) == set(EventKind)
    assert all(text.strip() for text in EVENT_HELP.values())


def test_every_command_and_option_says_what_it_does():
    silent = []
    for path, command in generate.commands(command_line, "safelight"):
        if not command.help:
            silent.append(path)
        silent += [f"{path} {each.opts[0]}" for each in command.params if hasattr(each, "help") and not each.help]
    assert not silent


def test_every_command_has_its_entry():
    page = (generate.ROOT / "docs" / "commands.md").read_text("utf-8")
    assert [path for path, _ in generate.commands(command_line, "safelight") if f"\n## `{path}`\n" not in page] == []


@pytest.mark.parametrize("setting", setting_table().values(), ids=lambda each: each.key)
def test_every_setting_is_read_outside_the_settings(setting):
    """As `settings.jobs.lease_s`, or from its section handed down: `jobs.lease_s`, `self._settings.lease_s`."""
    owners = {setting.section, f"_{setting.section}", "settings", "_settings", f"{setting.section}_settings"}
    readers = [
        module.name
        for module in modules()
        if not module.inside("settings", "cli.config")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr == setting.name
        and dotted(node.value).rpartition(".")[2] in owners
    ]
    assert readers, f"{setting.key} has no effect: nothing in src reads it"


def parse(**fields):
    return Contract(operation_table()).parse({"operation": "image.generate", "prompt": "a boat", **fields})


@pytest.mark.parametrize("record", sampler_table(), ids=lambda record: record.id)
def test_every_parameter_of_a_sampler_is_reachable(record):
    options = complete_options(record, {})
    asked = parse(sampler=record.id, sampler_options=options)
    assert complete_options(record, asked.sampler_options) == options
    assert set(options) == {parameter.name for parameter in record.parameters}


@pytest.mark.parametrize("record", schedule_table(), ids=lambda record: record.id)
def test_every_parameter_of_a_schedule_is_reachable(record):
    options = complete_options(record, {})
    assert complete_options(record, parse(schedule=record.id, schedule_options=options).schedule_options) == options


@pytest.mark.parametrize("record", [each for each in guidance_table() if each.public], ids=lambda record: record.id)
def test_every_guidance_and_its_parameters_are_reachable(record):
    options = complete_options(record, {})
    [asked] = parse(guidance=[{"kind": record.id, **options}]).guidance
    assert asked.kind == record.id
    assert complete_options(record, asked.options()) == options
