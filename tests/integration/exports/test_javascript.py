"""The exported folder runs in Node, with the tokenizer and the model as they are: transformers.js, and WebAssembly."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from distill import load, run
from distill.command.main import main
from tests.helpers.repositories import save_tiny_bert, sentences
from tests.helpers.tables import write

PACKAGE = "@huggingface/transformers@4.3.2"
TEXTS = ["a fine film", "one dull script, and it is not a WARM Ending!"]
PIPELINE = """
import { env, pipeline } from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = ".";
const classify = await pipeline("text-classification", "deployed", { dtype: "fp32" });
console.log(JSON.stringify(await classify(TEXTS)));
"""
WEB = """
import { AutoTokenizer, env } from "@huggingface/transformers";
import * as ort from "onnxruntime-web";
import { readFileSync } from "fs";
env.allowRemoteModels = false;
env.localModelPath = ".";
ort.env.wasm.numThreads = 1;
const tokenizer = await AutoTokenizer.from_pretrained("int8");
const session = await ort.InferenceSession.create(
  readFileSync("int8/onnx/model_quantized.onnx"), { executionProviders: ["wasm"] });
const logits = [];
for (const text of TEXTS) {
  const inputs = await tokenizer(text), feeds = {};
  for (const name of session.inputNames) feeds[name] = new ort.Tensor("int64", inputs[name].data, inputs[name].dims);
  logits.push(Array.from((await session.run(feeds)).logits.data));
}
console.log(JSON.stringify(logits));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exported runs, in float32 and int8, and the package of transformers.js."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("javascript")
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    save_tiny_bert(folder / "teacher", layers=2, hidden=24, heads=4, labels=["bad", "good"])
    rows = [{"text": row["sentence"], "label": ["bad", "good"][row["label"]]} for row in sentences(60, 0)]
    write(folder / "data.jsonl", rows)
    for name, form in (("deployed", "export: onnx"), ("int8", "quantize: {weights: 8, start: 50%}")):
        (folder / f"{name}.yaml").write_text(
            f"task: {{name: classification, data: {folder}/data.jsonl, max_length: 32, batch_size: 8}}\n"
            f"teacher: {{model: {folder}/teacher, check: false}}\n"
            "student: {kind: Transformer, layers: 1}\nlosses: {logits: {kind: Logits}}\n"
            f"trainer: {{max_epochs: 1, accelerator: cpu}}\noutput: {folder}/runs\n{form}\n"
        )
        run(folder / f"{name}.yaml")
        assert main(["export", str(folder / "runs" / name), str(folder / name)]) == 0
    return folder


def node(folder: Path, code: str) -> list:
    """Return what a module prints last, as JSON."""
    (folder / "module.mjs").write_text(code.replace("TEXTS", json.dumps(TEXTS)))
    done = subprocess.run(["node", "module.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_transformers_js_answers_as_python_does(folder: Path) -> None:
    for answer, expected in zip(node(folder, PIPELINE), load(folder / "deployed")(TEXTS), strict=True):
        assert answer["label"] == expected["label"] and answer["score"] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.slow
def test_webassembly_computes_what_int8_training_did(folder: Path) -> None:
    predictor = load(folder / "int8", "onnxruntime")
    for text, logits in zip(TEXTS, node(folder, WEB), strict=True):
        encoded = predictor.task.encode_inputs({"text": [text]})
        expected = predictor.predict(predictor.collate([{name: values[0] for name, values in encoded.items()}]))
        assert logits == pytest.approx(expected[0].tolist(), abs=1e-5)
