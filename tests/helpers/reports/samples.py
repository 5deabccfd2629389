"""A report, its curves and its details, as a run leaves them; shared by the tests of page and pictures."""

import math


def sample_report() -> dict:
    """TinyBERT on SST-2, pruned and 8-bit, as report.json holds it."""
    teacher = {
        "metrics": {"accuracy": 0.9243, "f1": 0.9261},
        "parameters": 109_483_778,
        "nonzero_parameters": 109_483_778,
        "bytes": 437_975_216,
        "flops_per_example": 11_170_000_000,
        "latency_ms": {"batch_1": 38.41, "batch_32": 972.6},
        "runtime": "torch",
        "precision": "float32",
        "latency_spread_ms": {"batch_1": [37.2, 41.9], "batch_32": [961.0, 1003.4]},
        "latency_tokens": {"batch_1": 23, "batch_32": 24},
        "intervals": {"accuracy": [0.9067, 0.9415], "f1": [0.9081, 0.9433]},
    }
    student = {
        "metrics": {"accuracy": 0.9071, "f1": 0.9093},
        "parameters": 14_350_874,
        "nonzero_parameters": 11_203_551,
        "bytes": 14_622_019,
        "flops_per_example": 1_240_000_000,
        "latency_ms": {"batch_1": 3.124, "batch_32": 88.04},
        "runtime": "onnxruntime",
        "precision": "int8",
        "latency_spread_ms": {"batch_1": [3.02, 3.41], "batch_32": [86.9, 91.2]},
        "latency_tokens": {"batch_1": 23, "batch_32": 24},
        "intervals": {"accuracy": [0.8876, 0.9255], "f1": [0.889, 0.9281]},
    }
    in_torch = student | {
        "bytes": 57_403_496,
        "latency_ms": {"batch_1": 11.21, "batch_32": 241.0},
        "latency_spread_ms": {"batch_1": [10.9, 12.4], "batch_32": [236.1, 250.7]},
        "runtime": "torch",
        "precision": "float32",
    }
    teacher_in_onnxruntime = teacher | {
        "metrics": {},
        "intervals": {},
        "latency_ms": {"batch_1": 19.9, "batch_32": 611.0},
        "latency_spread_ms": {"batch_1": [19.5, 21.0], "batch_32": [604.2, 633.8]},
        "runtime": "onnxruntime",
    }
    labels_only = student | {"metrics": {"accuracy": 0.8326, "f1": 0.8411}, "intervals": {}}
    return {
        "schema": 1,
        "name": "tinybert-sst2-int8",
        "task": "classification",
        "main_metric": "accuracy",
        "started": "2025-11-22 07:41",
        "seconds": 4382.7,
        "command": "python train.py --config tinybert.yaml --losses.logits.weight=0.5 --output runs/sst2",
        "seed": 17,
        "versions": {"python": "3.11.2", "torch": "2.13.0", "lightning": "2.6.6", "transformers": "5.23.0"},
        "hardware": {"cpu": "AMD EPYC 7763", "threads": 2, "accelerator": "NVIDIA H200"},
        "models": {
            "teacher": teacher,
            "student": student,
            "labels only": labels_only,
            "teacher in onnxruntime": teacher_in_onnxruntime,
            "student in torch": in_torch,
        },
        "difference": {"accuracy": [-0.0298, -0.0046], "f1": [-0.0301, -0.0039]},
        "baseline": {"accuracy": 0.5092},
        "speedups": {
            "batch_1": {"deployed": 12.29, "torch": 3.43, "onnxruntime": 6.37},
            "batch_32": {"deployed": 11.05, "torch": 4.04, "onnxruntime": 6.94},
        },
        "preflight": {
            "labels": {"": {"0": "negative", "1": "positive"}},
            "outputs": {"teacher": {"LABEL_0": "negative", "LABEL_1": "positive"}},
            "lines": ["train.parquet: 67,349 rows", "columns: sentence (text), label (label); ignored: idx"],
        },
        "ratios": {"retained": 0.9814, "smaller": 29.95, "faster_batch_1": 12.29, "faster_batch_32": 11.05},
        "timeline": [
            {"what": "losses.embeddings", "start_step": 0, "stop_step": 10_000},
            {"what": "losses.hidden", "start_step": 0, "stop_step": 10_000},
            {"what": "losses.attention", "start_step": 0, "stop_step": 10_000},
            {"what": "losses.logits", "start_step": 10_000, "stop_step": 20_000},
            {"what": "prune.sparsity", "start_step": 11_000, "stop_step": 17_000},
            {"what": "quantize", "start_step": 17_000, "stop_step": 20_000},
        ],
        "exports": [
            {
                "format": "onnx int8",
                "path": "student.onnx",
                "bytes": 14_622_019,
                "metrics": {"accuracy": 0.9071, "f1": 0.9093},
                "latency_ms": {"batch_1": 3.124, "batch_32": 88.04},
                "agreement": 0.9966,
                "largest_difference": 0.0831,
            },
            {
                "format": "safetensors",
                "path": "student/model.safetensors",
                "bytes": 57_403_496,
                "metrics": {"accuracy": 0.9083, "f1": 0.9104},
                "latency_ms": {"batch_1": 6.02, "batch_32": 151.0},
                "agreement": 1.0,
                "largest_difference": 0.0,
            },
        ],
        "parity": {"fold": 2.4e-6, "cut": 1.9e-6},
        "warnings": ["int8 answers batch 1 only 1.3 times faster than bf16 on this CPU, which lacks VNNI."],
    }


def sample_rows() -> list[dict]:
    """Losses that fall, switch on and off at half time, and an accuracy every 1000 steps."""
    rows = []
    for step in range(0, 20_001, 50):
        noise, early = 1 + 0.12 * math.sin(step * 12.9898), step < 10_000
        after = max(0, step - 10_000)
        rows.append(
            {
                "step": step,
                "progress": step / 20_000,
                "train/embeddings": noise * (0.02 + 0.9 * math.exp(-step / 900)) if early else None,
                "train/embeddings_weight": 1.0 if early else 0.0,
                "train/hidden": noise * (0.11 + 2.2 * math.exp(-step / 2500)),
                "train/hidden_weight": 1.0 if early else 0.0,
                "train/attention": noise * (0.4 + 1.1 * math.exp(-step / 3000)),
                "train/attention_weight": 1.0 if early else 0.0,
                "train/logits": noise * (0.05 + 0.5 * math.exp(-after / 1200)),
                "train/logits_weight": 0.0 if early else 1.0,
                "lr": 5e-5 * (1 - step / 20_000),
                "sparsity": 0.8 * (1 - (1 - min(1, max(0, step - 11_000) / 6000)) ** 3),
                "bits": 8 if step >= 17_000 else 32,
                "val/accuracy": None if step % 1000 else 0.907 - 0.4 * math.exp(-step / 3000),
            }
        )
    return rows


def sample_details() -> dict:
    """Four layers with heads and neurons cut, an agreement of two classes, and two disputed sentences."""
    parts = {"attention.self.query": 0.7, "attention.self.value": 0.62, "attention.output.dense": 0.66,
             "intermediate.dense": 0.83, "output.dense": 0.86}  # fmt: skip
    layers = [
        {
            "name": f"bert.encoder.layer.{depth}.{part}",
            "sparsity": sparsity - 0.05 * depth,
            "bits": 8,
            "parameters": int(374_400 * (0.7 if part == "intermediate.dense" else 1)),
            "parameters_before": 374_400,
        }
        for depth in range(4)
        for part, sparsity in parts.items()
    ]
    head = {"name": "classifier", "sparsity": 0.0, "bits": None, "parameters": 624, "parameters_before": 624}
    return {
        "layers": [*layers, head],
        "agreement": {"labels": ["negative", "positive"], "counts": [[412, 17], [22, 421]]},
        "examples": [
            {"text": "it 's a charming and often affecting journey that takes its time to say so , "
             "and then says it with a shrug",
             "label": "positive", "teacher": "positive", "student": "negative",
             "teacher_probability": 0.9981, "student_probability": 0.7312},
            {"text": "unflinchingly bleak and desperate", "label": "negative", "teacher": "positive",
             "student": "negative", "teacher_probability": 0.6132, "student_probability": 0.9542},
        ],
        "changed": 39,
        "rows": 872,
        "classes": {
            "teacher": [
                {"name": "negative", "rows": 428, "precision": 0.9301, "recall": 0.9322, "f1": 0.9312},
                {"name": "positive", "rows": 444, "precision": 0.9343, "recall": 0.9167, "f1": 0.9254},
            ],
            "student": [
                {"name": "negative", "rows": 428, "precision": 0.9101, "recall": 0.8952, "f1": 0.9026},
                {"name": "positive", "rows": 444, "precision": None, "recall": 0.9187, "f1": 0.9193},
            ],
        },
        "slices": [
            {"name": "domain: medical", "rows": 121, "metric": "accuracy", "difference": -0.0826,
             "interval": [-0.1322, -0.0331], "loss": 0.0826, "total_loss": 0.0172, "loses_more": True,
             "scores": {"teacher": 0.9339, "student": 0.8512}},
            {"name": "up to 12 tokens", "rows": 291, "metric": "accuracy", "difference": 0.0034,
             "interval": [-0.0103, 0.0172], "loss": -0.0034, "total_loss": 0.0172, "loses_more": False,
             "scores": {"teacher": 0.9107, "student": 0.9141}},
        ],
        "calibration": {
            "teacher": {"error": 0.0513, "bins": [{"confidence": 0.62, "accuracy": 0.58, "count": 21},
                                                  {"confidence": 0.99, "accuracy": 0.94, "count": 851}]},
            "student": {"error": 0.0237, "bins": [{"confidence": 0.55, "accuracy": 0.51, "count": 60},
                                                  {"confidence": 0.75, "accuracy": 0.8, "count": 112},
                                                  {"confidence": 0.97, "accuracy": 0.95, "count": 700}]},
        },
        "skipped": ["bert.embeddings.LayerNorm", "bert.pooler.dense"],
    }  # fmt: skip


def minimal_report() -> dict:
    """Fine-tuning before anything was measured."""
    return {"name": "bare", "models": {"teacher": None, "student": {}}}
