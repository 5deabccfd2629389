"""The flags of components in words; ``compatibility.py`` has the rules over them."""

from __future__ import annotations

FLAGS = {
    # tasks
    "redraws_rows": "a task that draws inputs and labels anew in each epoch",
    "augments": "a task that augments its rows",
    "predicts_tokens": "a task that predicts tokens of the vocabulary",
    "predicts_positions": "a task whose classes are positions in a text",
    "needs_teacher": "unlabelled texts",
    "is_single": "a single task",
    "is_multi_task": "several tasks",
    "accepts_soft_labels": "a task with one prediction for a text",
    "has_batches_of_one": "a batch of one row",
    # teachers
    "is_teacher": "a teacher",
    "is_frozen": "a trained teacher",
    "caches_outputs": "a cache of a teacher's outputs",
    "is_single_teacher": "a single teacher",
    "is_ensemble": "several teachers",
    "is_ensemble_for_all_tasks": "several teachers of the same task",
    "has_teacher_per_task": "a teacher for each task",
    "changes_with_student": "a teacher that changes with the student",
    "reads_columns": "a teacher in columns of the data",
    "averages_weights": "the moving average of the student",
    "can_be_matched": "a teacher that the student can match",
    # losses
    "compares_examples": "a loss that compares the examples of a batch",
    "uses_all_classes": "a loss over all classes",
    "uses_attention": "a loss on attention",
    "uses_layers": "a loss on layers",
    "has_named_teacher": "a loss that names one of several teachers",
    "all_need_teacher": "losses that all need the teacher",
    # pruning
    "prunes": "a pruner",
    "prunes_hidden": "pruning of hidden dimensions",
    "prunes_embeddings": "pruning of embeddings",
    "cuts_units": "pruning of neurons, heads, hidden dimensions or ranks",
    "reads_inputs": "a pruner that records the inputs of layers",
    "needs_full_weights": "a pruner that needs full weights",
    # quantization and export
    "groups_inputs": "a quantizer with a scale per group of inputs",
    "codes_vectors": "a quantizer with one code for several weights",
    "codes_some_vectors": "such a quantizer in `overrides`",
    "allocates_bits": "bits allocated by sensitivity (`bit_allocation`)",
    "uses_gptq": "`gptq`",
    "writes_packed": "a packed file",
    "writes_float32": "an exported file",
    "writes_onnx": "`export: onnx`",
    "saves_half": "a `save_dtype` of half precision",
    "drops_tokens": "`vocabulary: seen`",
    # the run
    "runs_teacher_blocks": "`replace`",
    "is_sharded": "`trainer.strategy: fsdp2`",
    "computes_in_half": "a `trainer.precision` with weights not in float32",
    "has_too_few_rows": "more processes than half the rows of a batch",
}
