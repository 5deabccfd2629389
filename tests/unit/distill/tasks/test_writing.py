"""A text written with a cache is the text of the loop without one: of every form of a student, and when it is asked."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedModel

from distill.evaluation.measure import evaluate_model, torch_predict
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.writing import CachedGenerator, greedy_generate
from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import cut
from quant_aware.quantize import Quantize
from quant_aware.quantizers.activations import ActivationQuantizer
from students.forms.low_rank import LowRank
from students.forms.share_layers import ShareLayers
from students.kinds.transformer import Transformer
from students.recording.model_io import model_inputs
from students.recording.trace import Recorder
from students.weights import fold
from tests.helpers.families import tiny
from tests.helpers.pruning.models import mask

TOKENS, END = 90, 1
"""Of the 100 outputs so many are tokens."""


def rows(count: int = 6) -> dict[str, Tensor]:
    """Sources of different lengths, and what starts a text."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, TOKENS, (count, 9), generator=draw)
    lengths = torch.randint(2, 10, (count, 1), generator=draw)
    mask = (torch.arange(9) < lengths).long()
    start = torch.zeros(count, 4, dtype=torch.long)
    labels = torch.randint(5, TOKENS, (count, 4), generator=draw)
    return {
        "input_ids": ids * mask,
        "attention_mask": mask,
        "decoder_input_ids": start,
        "decoder_attention_mask": torch.ones_like(start),
        "labels": labels,
    }


def rounded(model: PreTrainedModel, activations: ActivationQuantizer | None) -> PreTrainedModel:
    quantize = Quantize(activations=activations)
    quantize.attach(model)
    quantize.update(9, Timeline(total_steps=10, epoch_steps=10))
    quantize.calibrate(model, was_enabled=False)
    return model


def masked(model: PreTrainedModel) -> PreTrainedModel:
    mask(model, 0.5)
    assert any(parametrize.is_parametrized(module) for module in model.modules())
    return model


def narrower(model: PreTrainedModel) -> PreTrainedModel:
    mask(model, 0.5, "neurons")
    fold(model)
    cut(model)
    return model


def sharing(model: PreTrainedModel, modules: str) -> PreTrainedModel:
    return Transformer(layers=2, share_layers=ShareLayers(shared_modules=modules)).build(
        model, None, None, AutoModelForSeq2SeqLM
    )


FORMS: dict[str, Callable[[PreTrainedModel], PreTrainedModel]] = {
    "plain": lambda model: model,
    "one block": lambda model: Transformer(layers=1).build(model, None, None, AutoModelForSeq2SeqLM),
    "low rank": lambda model: Transformer(low_rank=LowRank(rank=8)).build(model, None, None, AutoModelForSeq2SeqLM),
    "shared": lambda model: sharing(model, "all"),
    "shared attention": lambda model: sharing(model, "attention"),
    "masked": masked,
    "narrower": narrower,
    "weights of 8 bits": lambda model: rounded(model, None),
    "all of 8 bits": lambda model: rounded(model, ActivationQuantizer(granularity="token")),
}


def loop(model: PreTrainedModel, batch: dict[str, Tensor], longest: int, others: list[int]) -> Tensor:
    with torch.no_grad():
        return greedy_generate(
            lambda given: model(**model_inputs(model, given)).logits[..., :TOKENS], batch, END, longest, others
        )


def widths(model: PreTrainedModel) -> list[int]:
    """Of each pass of the decoder from now on, the tokens that it reads; filled while it runs."""
    lengths: list[int] = []
    model.decoder.register_forward_pre_hook(
        lambda module, args, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    return lengths


@pytest.mark.parametrize("form", FORMS)
def test_with_a_cache_as_without(form):
    model = FORMS[form](tiny("t5", head="language", layers=2)).eval()
    batch, recorder = rows(), Recorder(model)  # as in training
    wanted = loop(model, batch, 12, [])
    assert len(wanted.unique()) > 1
    other = int(wanted[0, 3])
    for ends in ([], [other]):
        wanted, read = loop(model, batch, 12, ends), widths(model)
        assert torch.equal(CachedGenerator(model, lambda given: given).generate(batch, END, 12, ends, TOKENS), wanted)
        assert read == [1] * wanted.shape[1], "each token is read once"
    assert (wanted == other).any(), "a second end is one"
    recorder.close()


def test_rounded_by_the_range_of_all_that_is_read_a_text_is_read_anew():
    batch = rows()
    for seed in range(4):
        model = tiny("t5", head="language", layers=2)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        rounded(model, ActivationQuantizer()).eval()
        assert torch.equal(torch_predict(model).generate(batch, END, 12, (), TOKENS), loop(model, batch, 12, []))


def test_what_a_model_would_change_in_its_texts_stays_out_and_comes_back():
    model, batch = tiny("t5", head="language"), rows()
    wanted = loop(model, batch, 12, [])
    settings = GenerationConfig(
        repetition_penalty=9.0, no_repeat_ngram_size=1, num_beams=3, max_length=3, eos_token_id=7
    )
    model.generation_config = settings
    assert torch.equal(CachedGenerator(model, lambda given: given).generate(batch, END, 12, [], TOKENS), wanted)
    assert model.generation_config is settings


def task_of(metric: str, ends: list[int] | int | None = None) -> Seq2Seq:
    class Words:
        def __len__(self) -> int:
            return TOKENS

        def batch_decode(self, ids: Tensor, skip_special_tokens: bool) -> list[str]:
            return [" ".join(f"w{i}" for i in row if i > 1) for row in ids.tolist()]

    task = Seq2Seq(data="x", source="a", target="b", metric=metric, max_length=12)
    task.tokenizer, task.end, task.ends = Words(), END, {END}
    task.add_end_tokens(GenerationConfig(eos_token_id=ends))
    task.validation = [{"b": "w5 w6 w7 w8 w9"}] * 6
    return task


@pytest.mark.parametrize(("metric", "names"), [("perplexity", 0), ("accuracy", 0), ("bleu", 1)])
def test_texts_are_written_in_training_for_bleu_alone_and_for_the_report_always(metric, names):
    model, batch = tiny("t5", head="language"), rows() | {"row": torch.arange(6)}
    task, written = task_of(metric), []
    writer = torch_predict(model)
    model.generate = lambda **given: written.append(1) or torch.zeros(6, 2, dtype=torch.long)
    metrics = task.training_metrics()
    assert ("bleu" in metrics) == bool(names) and {"perplexity", "accuracy"} <= set(metrics)
    task.update_generation_metrics(metrics, writer, batch)
    assert len(written) == names
    assert "bleu" in evaluate_model(task, writer, [batch]).metrics and len(written) == names + 1


@pytest.mark.parametrize("ends", [None, 7, [1, 7, 8]])
def test_all_end_tokens_of_the_models_end_a_text_with_a_cache_and_without(ends):
    model, batch = tiny("t5", head="language"), rows() | {"row": torch.arange(6)}
    usual = loop(model, batch, 12, [])
    if ends:  # words that it does write
        ends = int(usual[0, 2]) if ends == 7 else [1, int(usual[0, 2]), int(usual[1, 1])]
    task = task_of("bleu", ends)
    texts = []
    decode = task.tokenizer.batch_decode
    task.tokenizer.batch_decode = lambda ids, **given: texts.append(ids) or decode(ids, **given)
    predict = torch_predict(model)
    for how in (predict, predict.predict):
        task.update_generation_metrics(task.metrics(), how, batch)
    assert torch.equal(*texts)
    there = {1} | set([ends] if isinstance(ends, int) else ends or [])
    for row, expected in zip(texts[0].tolist(), usual.tolist(), strict=True):
        stop = next((i for i, token in enumerate(expected) if token in there), len(expected))
        wanted = expected[: stop + 1]
        assert row[: len(wanted)] == wanted and set(row[len(wanted) :]) <= {END}
