"""Configs that are wrong for the length or the devices of a run: what is changed in ``GOOD``, and the printed line."""

from tests.helpers.mistakes.mistakes import GOOD

UNTIL_DEVICES = GOOD[GOOD.index("HiddenMSE") : GOOD.index("}\noutput")]

RUN_LENGTH = {
    "more epochs than there are": (
        "stop: 50%",
        "stop: 7 epochs",
        "5: losses.hidden.stop: '7 epochs' is step 14, but the run ends at step 2",
    ),
    "more steps than there are": (
        "start: 50%}",
        "start: 90 steps}",
        "8: quantize.start: '90 steps' is step 90, but the run ends at step 2",
    ),
    "a grid that the runtime has not": (
        "{start: 50%}",
        "{weights: 4, target: onnxruntime}",
        "8: quantize.target: onnxruntime needs 8 bits, weights Uniform per row, activations per tensor or "
        "symmetric per token; leave it out",
    ),
    "weights that are rounded again at each step, moved once": (
        "{start: 50%}",
        "{weights: 4, gptq: 8}",
        "8: quantize.gptq: needs a quantizer with a learned scale or codebook: {kind: Uniform, learn: true} or KMeans",
    ),
    "more than all of a weight": (
        "{start: 50%}",
        "{quant_noise: {kind: Linear, initial: 2, to: 1}}",
        "8: quantize.quant_noise: is 2.0 at step 0; it must be a probability, from 0 to 1",
    ),
    "pieces that would lose single numbers": (
        "{start: 50%}",
        "{weights: {kind: Product}}",
        "8: quantize: Product: has one code for several weights, of which prune removes some",
    ),
    "grids that do not follow each other": (
        "{start: 50%}",
        "{weights: {60%: 8, 50%: 4}}",
        "8: quantize.weights: 50% is step 1, not after the stage before it at step 1",
    ),
    "a grid for a weight that is not there": (
        "{start: 50%}",
        "{overrides: {'*embedings*': 8}}",
        "8: quantize.overrides: no quantized weight matches '*embedings*'",
    ),
    "two starts": (
        "{start: 50%}",
        "{weights: {50%: 8}, start: 50%}",
        "8: quantize.start: leave it out; the first time point of weights is the start",
    ),
    "groups of inputs that do not fit": (
        "{start: 50%}",
        "{weights: {kind: Ternary, granularity: 7}}",
        "8: quantize.weights.granularity: 24 inputs do not divide into groups of 7",
    ),
    "a window that ends before it starts": (
        "stop: 50%",
        "start: 90%, stop: 10%",
        "5: losses.hidden.stop: the window ends at step 0, and starts at step 2",
    ),
    "a score before there are gradients": (
        "{kind: Magnitude, sparsity: {kind: Cubic, to: 0.5}}",
        "{kind: Movement, sparsity: 0.5}",
        "7: prune.sparsity: is 0.5 at step 0, before there are gradients",
    ),
    "tiles that do not fit": (
        "{kind: Magnitude,",
        "{kind: Magnitude, shape: [5, 5],",
        "7: prune.shape: bert.encoder.layer.0.attention.self.query, ",
    ),
    "groups that do not fit": (
        "{kind: Magnitude,",
        "{kind: Magnitude, scope: 7,",
        "7: prune.scope: the ",
    ),
    "rows of heads": (
        "{kind: Magnitude,",
        "{kind: Magnitude, shape: heads, scope: row,",
        "7: prune.scope: row is for elements and tiles, not for heads",
    ),
    "more sparsity than there is": (
        "to: 0.5",
        "to: 1.5",
        "7: prune.sparsity: is 1.3125 at step 1; it must be from 0 to 1",
    ),
    "a share that no group can lose": (
        "{kind: Magnitude, sparsity: {kind: Cubic, to: 0.5}}",
        "{kind: Magnitude, scope: 8, sparsity: {kind: Cubic, to: 0.8}}",
        "7: prune.sparsity: ends at 0.8, which groups of 8 cannot have; write 0.75",
    ),
    "a penalty that makes weights grow": (
        "{kind: Magnitude,",
        "{kind: Magnitude, penalty: {kind: Linear, initial: 0, to: -0.1},",
        "7: prune.penalty: is -0.05 at step 1; it must be at least 0",
    ),
    "masks of the start before there are gradients": (
        "{kind: Magnitude, sparsity: {kind: Cubic, to: 0.5}}",
        "{kind: Taylor, sparsity: {kind: Steps, initial: 0.3, at: {50%: 0.5}}}",
        "7: prune.sparsity: is 0.3 at step 0, before there are gradients",
    ),
    "a run that never begins": ("max_epochs: 1", "max_epochs: 0", "10: trainer.max_epochs: the run has no steps"),
    "a run that never ends": ("max_epochs: 1", "max_epochs: -1", "10: trainer.max_epochs: the run has no steps"),
    "a run with no end": ("max_epochs: 1", "max_epochs: null", "10: trainer.max_epochs: the run has no steps"),
    "an unknown accelerator": (
        "accelerator: cpu",
        "accelerator: gpuu",
        "10: trainer: You selected an invalid accelerator name",
    ),
    "an unknown strategy": (
        "accelerator: cpu",
        "accelerator: cpu, strategy: foo",
        "10: trainer: You selected an invalid strategy name",
    ),
    "shards of another kind": (
        "accelerator: cpu",
        "accelerator: cpu, strategy: fsdp",
        "10: trainer.strategy: 'fsdp' is not supported; for sharded models write fsdp2",
    ),
    "blocks that cannot run alone": (
        "trainer: {max_epochs: 1,",
        "replace: {kind: Constant, to: 0.5}\ntrainer: {strategy: fsdp2, max_epochs: 1,",
        "10: replace: single blocks of the teacher cannot run, as the models of this run are sharded",
    ),
    "bits that are allotted to shards": (
        "quantize: {start: 50%}\noptimizer: {lr: 3e-5}\ntrainer: {max_epochs: 1, accelerator: cpu}",
        "quantize: {bit_allocation: 4}\ntrainer: {max_epochs: 1, accelerator: cpu, strategy: fsdp2}",
        "8: quantize.bit_allocation: needs full weights, and the models of this run are sharded",
    ),
    "errors that shards would make good": (
        "quantize: {start: 50%}\noptimizer: {lr: 3e-5}\ntrainer: {max_epochs: 1, accelerator: cpu}",
        "quantize: {weights: {kind: Uniform, learn: true}, gptq: 4}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, strategy: fsdp2}",
        "8: quantize.gptq: needs full weights, and the models of this run are sharded",
    ),
    "a precision for whole models": (
        "accelerator: cpu",
        "accelerator: cpu, strategy: fsdp2, precision: 64-true",
        "10: trainer.precision: fsdp2 needs 32-true or bf16-mixed, not 64-true",
    ),
    "devices that are none": (
        "accelerator: cpu",
        "accelerator: cpu, devices: many",
        "10: trainer: `devices` selected with `CPUAccelerator`",
    ),
    "more than all batches": (
        "accelerator: cpu",
        "accelerator: cpu, limit_train_batches: 1.5",
        "10: trainer: You have passed invalid value 1.5",
    ),
    "validation less than once an epoch": (
        "accelerator: cpu",
        "accelerator: cpu, val_check_interval: 99",
        "10: trainer.val_check_interval: 99 batches",
    ),
    "more processes than rows of a batch": (
        "accelerator: cpu",
        "accelerator: cpu, devices: 33",
        "1: task.batch_size: 33 processes cannot share 32 rows; it is at least 33",
    ),
    "processes that leave an example alone": (
        UNTIL_DEVICES,
        f"{UNTIL_DEVICES}, devices: 17".replace("HiddenMSE", "Contrastive"),
        "1: task.batch_size: hidden compares the examples of a batch, and 32 rows are a single one for a "
        "process of 17; write 34 or more",
    ),
}
