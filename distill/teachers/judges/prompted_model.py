"""A causal language model with a prompt as the teacher of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tqdm.auto import tqdm

from distill.teachers.judges.judge import Judge, Save
from distill.teachers.judges.prompt import Prompt
from distill.teachers.judges.scorer import Scorer
from students.kinds.student import resolve
from students.loading.adapters import NO_REMOTE_CODE
from students.loading.finite_weights import check_finite_weights
from students.loading.stored import stored_precision


@dataclass(kw_only=True)
class PromptedModel(Judge):
    """A causal language model that judges texts by the probabilities of the classes' words after a prompt.

    It runs once for each text, before the first step, without generating anything; its answers are kept beside the
    runs. ``softmax(log p(word of c | prompt))`` over the classes c are its probabilities. Texts that are too long for
    it are cut. Rows need no labels: without a column of them its own decisions are the labels, and metrics are the
    agreement with it.

    Args:
        model: a hub name, or a folder.
        prompt: the text before the answer, with ``{text}``, or the names of the columns of a pair in braces; examples
            may stand in it.
        labels: the word, or words, of each label, as in {0: negative, 1: positive}; no two may begin alike.
        calibrate: divide by the probabilities after the prompt without a text (Zhao et al. 2021, arXiv 2102.09690).
        chat: whether the prompt is a message in the chat template of the model.
        batch_size: number of prompts that run together.
        dtype: of its weights; by default that of its files, on a CPU float32.
        check: refuse a teacher that is no better on validation data than the most frequent class, before the first
            step.
    """

    model: str
    chat: bool = False
    batch_size: int = 16
    dtype: Literal["float32", "bfloat16", "float16"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ValueError(f"batch_size: must be at least 1, not {self.batch_size}")

    @property
    def identity(self) -> dict[str, object]:
        folder = Path(resolve(self.model))
        files = sorted(folder.glob("*")) if folder.is_dir() else []
        state = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return {"model": str(folder), "files": state, "chat": self.chat, "dtype": self.dtype}

    def ask(self, rows: dict[str, dict[str, str]], words: list[str], save: Save) -> list[str]:
        scorer = self._scorer(words)
        prompts = {prompt: scorer.prompt_tokens(texts) for prompt, texts in rows.items()}
        order = sorted(prompts, key=lambda prompt: len(prompts[prompt]))  # little padding
        for start in tqdm(range(0, len(order), self.batch_size), desc="judging", leave=False):
            batch = order[start : start + self.batch_size]
            scores = scorer.log_probs([prompts[prompt] for prompt in batch])
            if not scores.isfinite().all():
                raise ValueError(f"model: gives log-probabilities that are not finite{self._hint()}")
            save(batch, scores.tolist())
        count = sum(map(len, prompts.values()))
        notes = [f"judged {len(rows):,} prompts of {count:,} tokens"]
        return notes + [f"{scorer.num_cut:,} prompts were too long, and their texts cut"] * bool(scorer.num_cut)

    def _scorer(self, words: list[str]) -> Scorer:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # not above: a config is read without these

        from students.loading.hub import loading

        source, is_cpu = resolve(self.model), not torch.cuda.is_available()
        stored = "float32" if is_cpu else stored_precision(source).precision
        name = self.dtype or (stored if stored in ("bfloat16", "float16") else "float32")
        with loading(source):
            tokenizer = AutoTokenizer.from_pretrained(source, **NO_REMOTE_CODE)
            if self.chat and not tokenizer.chat_template:
                raise ValueError("chat: its tokenizer has no chat template")
            model, info = AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, name), output_loading_info=True, **NO_REMOTE_CODE
            )
        if missing := [key for key in info["missing_keys"] if "lm_head" in key or "embed" in key]:
            raise ValueError(f"model: it has no {', '.join(sorted(missing))}; it must be a causal language model")
        check_finite_weights(model)
        model.to("cpu" if is_cpu else "cuda")
        return Scorer(model, tokenizer, Prompt(self.prompt), words, self.chat)

    def _hint(self) -> str:
        return "; dtype: float32 may help" if self.dtype == "float16" else ""
