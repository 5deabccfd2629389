"""What each attention costs from 512 tokens on, beside full attention: a whole model, one row, one thread.

    python -m benchmarks.attention [--longest 16384] [--layers 6] [--hidden 384] [--training] [--int8]

The models are made up, so no file is needed. Full attention is SDPA, transformers' own; with ``--int8`` all are files
for onnxruntime, as a run exports them. Of each length all models take
turns, the seconds are processor time, and the figures are how many times less time, and memory, than full attention;
memory is what the process holds at most while the pass runs, above what it held before.
"""

import argparse
import ctypes
import multiprocessing
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from students.forms.attention import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.kinds.transformer import Transformer

FULL = "Transformer"
ATTENTIONS = {
    "LocalAttention 256": LocalAttention(),
    "LocalAttention 128": LocalAttention(window=128),
    "FixedAttention 128": FixedAttention(),
    "BlockAttention 4": BlockAttention(blocks=4),
    "Linformer 256": Linformer(length=256),
    "Linformer 128": Linformer(),
    "LinearAttention": LinearAttention(),
    "EfficientAttention": EfficientAttention(),
    "Performer 256": Performer(),
    "Performer 64": Performer(features=64),
}


def kinds(positions: int) -> dict[str, Transformer]:
    """Full attention, and the others with their defaults and a narrower window."""
    return {
        FULL: Transformer(max_position_embeddings=positions),
        **{
            name: Transformer(max_position_embeddings=positions, attention=attention)
            for name, attention in ATTENTIONS.items()
        },
    }


def made(kind: Transformer, layers: int, hidden: int) -> BertForSequenceClassification:
    """The model, with random weights, 32 dimensions to a head and a vocabulary too small to count."""
    config = BertConfig(
        vocab_size=1000,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=hidden // 32,
        intermediate_size=4 * hidden,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind.build(BertForSequenceClassification(config), None, None)


def exported(model: BertForSequenceClassification) -> OnnxModel:
    """The int8 file of a model, loaded."""
    ids = torch.full((2, 64), 7)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, Path(folder) / "plain.onnx")
        quantize_onnx(Path(folder) / "plain.onnx", Path(folder) / "int8.onnx")
        return OnnxModel(Path(folder) / "int8.onnx")


def seconds(model: BertForSequenceClassification | OnnxModel, length: int, training: bool) -> float:
    """Processor time of one pass over one row; with ``training`` forward and backward, dropout left out."""
    ids = torch.full((1, length), 7)
    mask = torch.ones_like(ids)
    begin = time.process_time()
    if isinstance(model, OnnxModel):
        model({"input_ids": ids, "attention_mask": mask})
        return time.process_time() - begin
    with torch.set_grad_enabled(training):
        logits = model(input_ids=ids, attention_mask=mask).logits
        if training:
            logits.sum().backward()
    return time.process_time() - begin


def peak(name: str, positions: int, layers: int, hidden: int, length: int, training: bool, found) -> None:
    """Puts into ``found`` how many MB one pass adds to what the process held; run in a process of its own."""
    torch.set_num_threads(1)
    model = made(kinds(positions)[name], layers, hidden).eval()
    seconds(model, 16, training)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what making the model freed would be used again, and not be counted
    Path("/proc/self/clear_refs").write_text("5")  # the most begins anew, with what is held now
    before = most_held()
    seconds(model, length, training)
    found.put(most_held() - before)


def most_held() -> float:
    """The most memory that this process has held, MB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measured_peak(*given: object) -> float:
    """``peak`` of a fresh process.

    Raises:
        SystemExit: if the process failed, for want of memory most likely.
    """
    context = multiprocessing.get_context("spawn")
    found = context.SimpleQueue()
    process = context.Process(target=peak, args=(*given, found))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{given[0]}: no figure of memory, its process ended with {process.exitcode}")
    return found.get()


def main() -> None:
    """Prints, for each length, a row for each attention; then from which length on each is faster than full."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--longest", type=int, default=16384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--training", action="store_true", help="forward and backward")
    parser.add_argument("--memory", action="store_true", help="peak memory, too: a process for each figure")
    parser.add_argument("--int8", action="store_true", help="exported, in onnxruntime")
    given = parser.parse_args()
    if given.int8 and (given.training or given.memory):
        parser.error("--int8 is for the time of a forward pass")
    torch.set_num_threads(1)
    lengths = [length for length in (512, 1024, 2048, 4096, 8192, 16384) if length <= given.longest]
    models = {name: made(kind, given.layers, given.hidden).eval() for name, kind in kinds(lengths[-1]).items()}
    if given.int8:
        models = {name: exported(model) for name, model in models.items()}
    faster: dict[str, list[int]] = {name: [] for name in models}
    what = "training step" if given.training else f"forward pass{', int8 in onnxruntime' * given.int8}"
    print(f"{what}, {given.layers} layers of {given.hidden}, {given.hidden // 32} heads, one thread")
    print("| tokens | attention | s | times faster | MB | times less |")
    print("|---|---|---|---|---|---|")
    for length in lengths:
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(given.rounds):
            for name, model in models.items():
                times[name].append(seconds(model, length, given.training))
        sizes = {}
        if given.memory:
            sizes = {
                name: measured_peak(name, lengths[-1], given.layers, given.hidden, length, given.training)
                for name in models
            }
        for name, found in times.items():
            ratio = statistics.median(full / own for full, own in zip(times[FULL], found, strict=True))
            memory = f"{sizes[name]:.0f} | {sizes[FULL] / max(sizes[name], 1):.1f}" if sizes else " | "
            print(f"| {length} | {name} | {statistics.median(found):.3f} | {ratio:.2f} | {memory} |", flush=True)
            if ratio > 1:
                faster[name].append(length)
    for name, found in faster.items():
        if name != FULL:
            print(f"{name}: faster at {', '.join(map(str, found)) or 'none of these lengths'}")


if __name__ == "__main__":
    main()
