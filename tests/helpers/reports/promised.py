"""What report.json promises to whoever reads it."""

REPORT = {
    "schema",
    "name",
    "task",
    "started",
    "seconds",
    "command",
    "seed",
    "versions",
    "hardware",
    "models",
    "ratios",
    "timeline",
    "exports",
    "warnings",
}
MODEL = {
    "metrics",
    "parameters",
    "nonzero_parameters",
    "bytes",
    "flops_per_example",
    "latency_ms",
    "runtime",
    "precision",
}
RATIOS = {"retained", "smaller", "faster_batch_1", "faster_batch_32"}


def keeps_promises(report: dict) -> None:
    """Fails where a report lacks what is promised of every one, or of each of its models."""
    assert report["schema"] == 1
    assert report.keys() >= REPORT, REPORT - report.keys()
    for name, model in report["models"].items():
        assert model.keys() >= MODEL, f"{name}: {MODEL - model.keys()}"
        assert model["latency_ms"].keys() == {"batch_1", "batch_32"}, name
        assert model["latency_spread_ms"].keys() == model["latency_tokens"].keys() == model["latency_ms"].keys(), name
        assert model["intervals"].keys() == model["metrics"].keys(), name
    assert report["ratios"].keys() == (RATIOS if "teacher" in report["models"] else set())
    for entry in report["timeline"]:
        assert entry.keys() == {"what", "start_step", "stop_step"}
        assert 0 <= entry["start_step"] <= entry["stop_step"]
