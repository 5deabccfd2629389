"""Time and memory of each attention from 512 tokens on, compared with full attention: a model, one row, one thread.

    python -m benchmarks.attention [--longest 16384] [--layers 6] [--hidden 384] [--training] [--int8]

The models have random weights, so no file is needed. Full attention is transformers' SDPA; with ``--int8`` all models
are exported for onnxruntime, as a run does. For each length the models take turns. Seconds are processor time, and
ratios say how many times less time or memory than full attention. Memory is the peak of the process during the pass
above its memory before.
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


def make_kinds(positions: int) -> dict[str, Transformer]:
    """Return by name the full attention and the others."""
    return {
        FULL: Transformer(max_position_embeddings=positions),
        **{
            name: Transformer(max_position_embeddings=positions, attention=attention)
            for name, attention in ATTENTIONS.items()
        },
    }


def make_model(kind: Transformer, layers: int, hidden: int) -> BertForSequenceClassification:
    """Return a model with random weights, heads of 32 dimensions and a negligible vocabulary."""
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


def export_int8(model: BertForSequenceClassification) -> OnnxModel:
    """Export a model in int8, and load the file."""
    ids = torch.full((2, 64), 7)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, Path(folder) / "plain.onnx")
        quantize_onnx(Path(folder) / "plain.onnx", Path(folder) / "int8.onnx")
        return OnnxModel(Path(folder) / "int8.onnx")


def time_pass(model: BertForSequenceClassification | OnnxModel, length: int, training: bool) -> float:
    """Return the processor time of a forward pass of one row, with ``training`` of forward and backward."""
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


def put_peak_memory(name: str, positions: int, layers: int, hidden: int, length: int, training: bool, queue) -> None:
    """Put into ``queue`` the MB that one pass adds to the memory of the process; run it in a new process."""
    torch.set_num_threads(1)
    model = make_model(make_kinds(positions)[name], layers, hidden).eval()
    time_pass(model, 16, training)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory would be used again, and not be counted
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory()
    time_pass(model, length, training)
    queue.put(peak_memory() - before)


def peak_memory() -> float:
    """Return the peak memory of this process in MB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measure_peak_memory(*arguments: object) -> float:
    """Return the peak memory in MB that ``put_peak_memory`` measures in a new process.

    Raises:
        SystemExit: if the process failed, most likely for lack of memory.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=put_peak_memory, args=(*arguments, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{arguments[0]}: its memory was not measured, the process ended with {process.exitcode}")
    return queue.get()


def main() -> None:
    """Print a row for each length and attention, then the lengths at which each is faster than full attention."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--longest", type=int, default=16384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--training", action="store_true", help="forward and backward")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too, in a process each")
    parser.add_argument("--int8", action="store_true", help="exported, in onnxruntime")
    options = parser.parse_args()
    if options.int8 and (options.training or options.memory):
        parser.error("--int8 is for the time of a forward pass")
    torch.set_num_threads(1)
    lengths = [length for length in (512, 1024, 2048, 4096, 8192, 16384) if length <= options.longest]
    models = {
        name: make_model(kind, options.layers, options.hidden).eval() for name, kind in make_kinds(lengths[-1]).items()
    }
    if options.int8:
        models = {name: export_int8(model) for name, model in models.items()}
    faster: dict[str, list[int]] = {name: [] for name in models}
    title = "training step" if options.training else f"forward pass{', int8 in onnxruntime' * options.int8}"
    print(f"{title}, {options.layers} layers of {options.hidden}, {options.hidden // 32} heads, one thread")
    print("| tokens | attention | s | times faster | MB | times less |")
    print("|---|---|---|---|---|---|")
    for length in lengths:
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(options.rounds):
            for name, model in models.items():
                times[name].append(time_pass(model, length, options.training))
        sizes = {}
        if options.memory:
            sizes = {
                name: measure_peak_memory(name, lengths[-1], options.layers, options.hidden, length, options.training)
                for name in models
            }
        for name, model_times in times.items():
            ratio = statistics.median(full / seconds for full, seconds in zip(times[FULL], model_times, strict=True))
            memory = f"{sizes[name]:.0f} | {sizes[FULL] / max(sizes[name], 1):.1f}" if sizes else " | "
            print(f"| {length} | {name} | {statistics.median(model_times):.3f} | {ratio:.2f} | {memory} |", flush=True)
            if ratio > 1:
                faster[name].append(length)
    for name, faster_lengths in faster.items():
        if name != FULL:
            print(f"{name}: faster at {', '.join(map(str, faster_lengths)) or 'none of these lengths'}")


if __name__ == "__main__":
    main()
