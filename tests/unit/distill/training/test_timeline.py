"""The timeline of a config: its entries, the step from which all is final, and errors that name the key."""

import warnings

import pytest

from distill.config.errors import ConfigError
from distill.config.loader import load
from distill.experiment.compatibility import check_compatibility
from distill.experiment.components import components
from distill.experiment.experiment import Experiment
from distill.training.timeline import (
    early_quantization_warnings,
    final_form_step,
    step_ranges,
    timeline_entries,
    timeline_table,
)
from prune_schedules.schedule import Schedule, Timeline

RUN = Timeline(total_steps=200, epoch_steps=50)
CONFIG = """\
task: {name: classification, data: data}
teacher: teacher
student: {kind: Transformer, layers: 2}
losses:
  hidden: {kind: HiddenMSE, stop: 2 epochs}
  logits:
    {kind: Logits, start: 50%, temperature: {kind: Linear, initial: 4.0, to: 1.0, start: 120 steps, stop: 3 epochs}}
prune: {kind: Magnitude, sparsity: {kind: Cubic, to: 0.8, start: 10%, stop: 120 steps}}
quantize: {start: 75%}
optimizer: {warmup: 5%}
"""


def read(tmp_path, text=CONFIG, **overrides):
    (tmp_path / "run.yaml").write_text(text)
    return load(tmp_path / "run.yaml", Experiment, overrides)


def rows(config, run=RUN):
    return [(row["what"], row["start_step"], row["stop_step"]) for row in timeline_entries(config, run)]


def test_everything_that_changes_in_the_order_of_the_config(tmp_path):
    assert rows(read(tmp_path)) == [
        ("loss hidden", 0, 100),
        ("loss logits", 100, 200),
        ("temperature of logits (linear)", 120, 150),
        ("sparsity (cubic)", 20, 120),
        ("int8 training", 150, 200),
        ("learning rate warm-up", 0, 10),
        ("learning rate (linear)", 0, 200),
    ]


def test_several_pruners_are_told_apart_and_stairs_have_no_order(tmp_path):
    stairs = "{kind: Steps, at: {60%: 0.8, 20%: 0.5}}"
    pruners = f"{{a: {{kind: Magnitude, sparsity: 0.5}}, b: {{kind: Magnitude, sparsity: {stairs}}}}}"
    lines = rows(read(tmp_path, prune=pruners))
    assert ("sparsity b (steps)", 40, 120) in lines and not any(what.startswith("sparsity a") for what, *_ in lines)


def test_what_is_frozen_is_on_it(tmp_path):
    assert ("frozen *embeddings*", 0, 60) in rows(read(tmp_path, **{"optimizer.freeze": '{"*embeddings*": 30%}'}))


def test_inputs_are_gathered_where_all_blocks_run(tmp_path):
    given = {"losses": "{logits: {kind: Logits}}", "replace": "{kind: Linear, initial: 0.5, to: 1.0, stop: 60%}"}
    late = {"prune": "{kind: Wanda, batches: 4, sparsity: {kind: Steps, at: {70%: 0.5}}}"}
    check_compatibility(good := read(tmp_path, **given | late), components(good.value), RUN)
    early = {"prune": "{late: {kind: SparseGPT, batches: 4, sparsity: {kind: Steps, at: {60%: 0.5}}}}"}
    message = r"prune\.late\.kind: needs the inputs of a block, .* and replace may skip it at step 116"
    with pytest.raises(ConfigError, match=message):
        check_compatibility(bad := read(tmp_path, **given | early), components(bad.value), RUN)


def test_rounding_before_masks_stand_is_told(tmp_path):
    assert early_quantization_warnings(read(tmp_path).value, RUN) == []
    assert early_quantization_warnings(read(tmp_path, quantize="null").value, RUN) == []
    message = "quantize starts at step 100, while the masks of prune move until step 120"
    assert early_quantization_warnings(read(tmp_path, **{"quantize.start": "50%"}).value, RUN) == [message]


def test_one_stair_is_a_jump(tmp_path):
    lines = rows(read(tmp_path, **{"losses.logits.weight": "{kind: Steps, at: {30%: 2.0}, initial: 1.0}"}))
    assert ("weight of logits (steps)", 60, 60) in lines


@pytest.mark.parametrize(
    "overrides, step",
    [
        ({}, 150),
        ({"quantize": "null"}, 120),
        ({"prune": "null"}, 150),
        ({"prune": "null", "quantize": "null"}, 0),
        ({"prune.sparsity": "0.5", "quantize": "null"}, 0),
        ({"prune.sparsity": "{kind: Steps, at: {90%: 0.5, 20%: 0.2}}"}, 180),
    ],
)
def test_the_step_from_which_sparsity_and_bits_are_final(tmp_path, overrides, step):
    assert final_form_step(read(tmp_path, **overrides).value, RUN) == step


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("losses.hidden.stop", "5 epochs", "losses.hidden.stop: '5 epochs' is step 250, but the run ends at step 200"),
        ("losses.logits.start", "201 steps", "losses.logits.start: '201 steps' is step 201"),
        ("losses.logits.stop", "40%", "losses.logits.stop: the window ends at step 80, and starts at step 100"),
        ("losses.logits.stop", "50%", "losses.logits.stop: the window ends at step 100, and starts at step 100"),
        ("losses.logits.start", "100%", "losses.logits.stop: the window ends at step 200, and starts at step 200"),
        ("losses.logits.temperature.stop", "9 epochs", "losses.logits.temperature.stop: '9 epochs' is step 450"),
        ("losses.logits.temperature.stop", "10%", "losses.logits.temperature.stop: the window ends at step 20"),
        ("losses.logits.temperature", "0.0", "losses.logits.temperature: must be above 0, and is 0.0 at step 0"),
        ("losses.logits.temperature", "{kind: Linear, to: 4}", "losses.logits.temperature: must be above 0"),
        (
            "losses.logits.weight",
            "{kind: Steps, at: {10%: 1, 999 steps: 2, 20%: 3}}",
            "losses.logits.weight.at.999 steps: '999 steps' is step 999",
        ),
        ("prune.sparsity.stop", "300 steps", "prune.sparsity.stop: '300 steps' is step 300"),
        ("prune.sparsity.to", "1.5", "prune.sparsity: is "),
        ("prune.every", "300 steps", "prune: '300 steps' is step 300"),
        ("quantize.start", "201 steps", "quantize.start: '201 steps' is step 201"),
        ("optimizer.warmup", "9 epochs", "optimizer.warmup: '9 epochs' is step 450"),
        (
            "optimizer.schedule",
            "{kind: Linear, to: 0, stop: 9 epochs}",
            "optimizer.schedule.stop: '9 epochs' is step 450",
        ),
    ],
)
def test_an_error_names_the_key(tmp_path, key, value, message):
    with pytest.raises(ConfigError) as caught:
        timeline_entries(read(tmp_path, **{key: value}), RUN)
    assert message in str(caught.value)


def test_an_error_names_the_line(tmp_path):
    with pytest.raises(ConfigError, match=r"run\.yaml:5: losses\.hidden\.stop: '5 epochs' is step 250"):
        timeline_entries(read(tmp_path, CONFIG.replace("2 epochs", "5 epochs")), RUN)


@pytest.mark.parametrize(
    "overrides, first",
    [
        ({"losses.hidden.stop": "40%"}, 80),
        ({"losses.hidden.start": "10%"}, 0),
        ({"losses.hidden.weight": "0"}, 0),
        ({"losses.logits.weight": "{kind: Linear, to: 0, initial: 1, stop: 80%}"}, 160),
    ],
)
def test_at_every_step_some_loss_counts(tmp_path, overrides, first):
    with pytest.raises(ConfigError, match=rf"losses: no loss has a weight at \d+ of 200 steps, first at step {first}$"):
        timeline_entries(read(tmp_path, **overrides), RUN)


def test_a_weight_may_rise_from_0(tmp_path):
    rising = "{kind: Linear, initial: 0, to: 1}"
    timeline_entries(read(tmp_path, **{"losses.hidden.weight": rising, "losses.logits.weight": rising}), RUN)


def test_the_table_has_a_row_and_a_bar_for_each(tmp_path):
    entries = timeline_entries(read(tmp_path), RUN)
    lines = timeline_table(entries, RUN).splitlines()
    assert lines[0] == "200 steps, 50 in an epoch" and len(lines) == 1 + len(entries)
    width = max(len(row["what"]) for row in entries)
    for line, row in zip(lines[1:], entries, strict=True):
        head, bar = line[: 2 + width + 19].split(), line[2 + width + 2 + 7 + 3 + 7 + 1 :]
        assert line.strip().startswith(row["what"])
        assert head[-3:] == [str(row["start_step"]), "–", str(row["stop_step"])]
        assert len(bar) - len(bar.lstrip()) == round(30 * row["start_step"] / 200)
        assert bar.count("█") == max(1, round(30 * row["stop_step"] / 200) - round(30 * row["start_step"] / 200))


def test_what_comes_at_the_very_end_still_has_a_bar(tmp_path):
    line = timeline_table([{"what": "end", "start_step": 200, "stop_step": 200}], RUN).splitlines()[1]
    assert line.count("█") == 1 and line.endswith(" " * 30 + "█")


def test_a_run_of_a_billion_steps_is_looked_at_in_no_time(tmp_path):
    long, text = Timeline(200 * 2**23, 50 * 2**23), CONFIG.replace("120 steps", "60%")
    assert [row["what"] for row in timeline_entries(read(tmp_path, text), long)] == [
        row[0] for row in rows(read(tmp_path, text))
    ]
    with pytest.raises(
        ConfigError, match=r"losses: no loss has a weight at 838860800 of 1677721600 steps, first at step 0$"
    ):
        timeline_entries(read(tmp_path, text, **{"losses.hidden.weight": "0"}), long)


WEIGHTS = [
    "1.0",
    "0",
    "{kind: Linear, to: 0, initial: 1, stop: 80%}",
    "{kind: Linear, to: 1, start: 30%, stop: 60%}",
    "{kind: Steps, at: {20%: 0, 35%: 2, 70%: 0}, initial: 1}",
    "{kind: Cyclic, to: 1, cycles: 7, start: 10%, stop: 90%}",
]


@pytest.mark.parametrize("hidden", WEIGHTS)
@pytest.mark.parametrize("logits", WEIGHTS)
def test_the_steps_at_which_losses_count_are_those_of_a_walk(tmp_path, hidden, logits):
    losses = read(tmp_path, **{"losses.hidden.weight": hidden, "losses.logits.weight": logits}).value.losses
    walked = {step: [loss.at(step, RUN).weight != 0 for loss in losses.values()] for step in range(200)}
    for number, loss in enumerate(losses.values()):
        active = [step for steps in loss.active_steps(RUN) for step in steps]
        assert active == [step for step, has_weight in walked.items() if has_weight[number]]
    ranges = step_ranges(losses, RUN)
    assert [step for steps in ranges for step in steps] == list(range(200))
    assert all(walked[step] == walked[steps[0]] for steps in ranges for step in steps)


@pytest.mark.parametrize("every", ["1%", "7 steps", "50%"])
@pytest.mark.parametrize(
    "sparsity",
    [
        "{kind: Cubic, to: 0.5, start: 10%, stop: 63%}",
        "{kind: Steps, at: {20%: 0.2, 60%: 0.5}}",
        "{kind: Linear, to: 1}",
    ],
)
def test_the_steps_in_which_a_pruner_reads_are_those_of_a_walk(tmp_path, every, sparsity):
    prune = f"{{kind: Wanda, batches: 4, every: {every}, sparsity: {sparsity}}}"
    (pruner,) = read(tmp_path, prune=prune).value.pruners().values()
    active = {step for steps in pruner.active_steps(RUN) for step in steps}
    assert active == {step for step in range(200) if pruner.is_active_at(step, RUN)}


def test_a_schedule_that_does_not_say_where_it_turns_is_sampled_and_says_so(tmp_path):
    class _Wave(Schedule):
        def value(self, step: int, timeline: Timeline) -> float:
            return 1.5 + (-1) ** (step // 1000)

    config = read(tmp_path, CONFIG.replace("120 steps", "60%"))
    config.value.losses["hidden"].weight = _Wave()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timeline_entries(config, RUN)
    message = r"losses.hidden.weight: _Wave does not declare its breakpoints; only every 20th step"
    with pytest.warns(UserWarning, match=message):
        timeline_entries(config, Timeline(200_000, 50_000))
