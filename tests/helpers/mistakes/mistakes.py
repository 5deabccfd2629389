"""What users get wrong in the file and in an override, as the reader sees, and what each is told."""

GOOD = """\
task: {name: classification, data: data.csv}
teacher: teacher
student: {kind: Transformer, layers: 1}
losses:
  hidden: {kind: HiddenMSE, stop: 50%}
  logits: {kind: Logits, temperature: 2.0}
prune: {kind: Magnitude, sparsity: {kind: Cubic, to: 0.5}}
quantize: {start: 50%}
optimizer: {lr: 3e-5}
trainer: {max_epochs: 1, accelerator: cpu}
output: out
"""
UNTIL_A_LOSS = GOOD[GOOD.index("}\nteacher") : GOOD.index("HiddenMSE")]

IN_FILE = {
    "a misspelt key": ("layers: 1", "layer: 1", "3: student.layer: Transformer has no 'layer'; did you mean 'layers'?"),
    "a misspelt section": (
        "optimizer:",
        "optimiser:",
        "9: optimiser: Experiment has no 'optimiser'; did you mean 'optimizer'?",
    ),
    "a key like no other": ("lr:", "zzz:", "9: optimizer.zzz: Optimizer has no 'zzz'; it has lr, warmup, schedule,"),
    "a text for a number": ("layers: 1", "layers: four", "3: student.layers: 'four' is not a whole number"),
    "a share for a whole number": ("layers: 1", "layers: 1.5", "3: student.layers: 1.5 is not a whole number"),
    "true for a whole number": ("layers: 1", "layers: true", "3: student.layers: True is not a whole number"),
    "dropout that is no probability": (
        "layers: 1",
        "layers: 1, dropout: 2",
        "3: student.dropout: must be a probability",
    ),
    "yes for a number": ("lr: 3e-5", "lr: yes", "9: optimizer.lr: True is not a number"),
    "a number in quotes": ("lr: 3e-5", "lr: '3e-5'", "9: optimizer.lr: '3e-5' is not a number"),
    "nothing for a number": ("lr: 3e-5", "lr:", "9: optimizer.lr: None is not a number"),
    "a number for a list": ("lr: 3e-5", "betas: 0.9", "9: optimizer.betas: 0.9 is not a list"),
    "a text in a list": ("lr: 3e-5", "betas: [0.9, x]", "9: optimizer.betas.1: 'x' is not a number"),
    "a list for a class": ("{kind: Transformer, layers: 1}", "[1]", "3: student: [1] is not a Student"),
    "a number for a class": ("{start: 50%}", "8", "8: quantize: 8 is not a Quantize"),
    "a word that is no choice": ("output: out", "export: onxx", "11: export: 'onxx' is not onnx; did you mean 'onnx'?"),
    "a word in a list of choices": (
        "{kind: Magnitude,",
        "{kind: Magnitude, where: [attn],",
        "7: prune.where.0: 'attn' is not one of attention, ffn, embeddings, head, recurrence; did you mean 'attention'",
    ),
    "a misspelt rule": (
        "HiddenMSE,",
        "HiddenMSE, layers: unifrom,",
        "5: losses.hidden.layers: 'unifrom' is not one of uniform, skip, first, last, top, random, nearest, "
        "transport, mixture or a mapping; did you mean 'uniform'?",
    ),
    "a student of null": ("student: {kind: Transformer, layers: 1}", "student: null", "3: student: None is not"),
    "an unknown loss": (
        "kind: Logits,",
        "kind: LogitKL,",
        "6: losses.logits.kind: no Loss 'LogitKL'; did you mean 'Logits'?",
    ),
    "an unknown schedule": (
        "kind: Cubic",
        "kind: Cubik",
        "7: prune.sparsity.kind: no Schedule 'Cubik'; did you mean 'Cubic'?",
    ),
    "an unknown task": (
        "name: classification",
        "name: clasification",
        "1: task.name: no Task 'clasification'; did you mean 'classification'?",
    ),
    "a task that is none": (
        "name: classification",
        "name: language",
        "1: task.name: no Task 'language'; there are classification, regression",
    ),
    "a loss without kind": ("kind: Logits, ", "", "6: losses.logits: no 'kind'; expected one of "),
    "a task without name": (
        "name: classification, ",
        "",
        "1: task: no 'name'; expected one of classification, regression",
    ),
    "a schedule without its end": (", to: 0.5", "", "7: prune.sparsity: Cubic needs 'to'"),
    "no student": ("student: {kind: Transformer, layers: 1}\n", "", "1: Experiment needs 'student'"),
    "a time point without unit": (
        "stop: 50%",
        "stop: 0.5",
        "5: losses.hidden.stop: '0.5' is not a time point; write '10%',",
    ),
    "a time point after the end": (
        "stop: 50%",
        "stop: 150%",
        "5: losses.hidden.stop: '150%' lies after the end of the run",
    ),
    "a step at no time point": (
        "{kind: Cubic, to: 0.5}",
        "{kind: Steps, at: {30: 0.5}}",
        "7: prune.sparsity: '30' is not a time point",
    ),
    "heads that do not divide": (
        "layers: 1",
        "heads: 12, hidden: 310",
        "3: student.heads: 12 heads do not divide a hidden size of 310",
    ),
    "a constructor's error": ("lr: 3e-5", "lr: 0", "9: optimizer.lr: must be above 0, not 0"),
    "an error of two keys": (
        "{kind: Magnitude,",
        "{kind: Magnitude, shape: heads, where: [ffn],",
        "7: prune.where: heads are in attention only, not in ffn",
    ),
    "masks that are renewed at no time": (
        "{kind: Magnitude,",
        "{kind: Magnitude, every: 0 steps,",
        "7: prune.every: must be above 0, not 0 steps",
    ),
    "a place of hidden dimensions": (
        "{kind: Magnitude,",
        "{kind: Magnitude, shape: hidden, where: [ffn],",
        "7: prune.where: hidden dimensions run through the whole model; leave it out",
    ),
    "hidden dimensions that blocks of the teacher write to": (
        "prune: {kind: Magnitude,",
        "replace: 0.5\nprune: {kind: Magnitude, shape: hidden,",
        "8: prune: blocks of the teacher (replace) write to hidden dimensions that are pruned",
    ),
    "factors that leave nothing": (
        "{kind: Logits, temperature: 2.0}",
        "{kind: DIST, beta: 0, gamma: 0}",
        "6: losses.logits.beta: with beta and gamma at 0 nothing is compared",
    ),
    "an example that is compared with no other": (
        f"{UNTIL_A_LOSS}HiddenMSE",
        f", batch_size: 1{UNTIL_A_LOSS}Contrastive",
        "1: task.batch_size: hidden compares the examples of a batch, and is always 0 of a single one",
    ),
    "examples that are not related": (
        f"{UNTIL_A_LOSS}HiddenMSE",
        f", batch_size: 1{UNTIL_A_LOSS}Contextual, over: examples",
        "1: task.batch_size: hidden compares the examples of a batch, and is always 0 of a single one",
    ),
    "no losses": (
        GOOD[GOOD.index("losses:") : GOOD.index("prune:")],
        "losses: {}\n",
        "4: losses: name at least one loss",
    ),
    "a negative seed": ("output: out", "seed: -1", "11: seed: must lie in [0, 2^32), not -1"),
    "no rows": ("data.csv}", "data.csv, max_train_samples: 0}", "1: task.max_train_samples: must be at least 1, not 0"),
    "three columns of text": ("data.csv}", "data.csv, text: [a, b, c]}", "1: task.text: one column or two, not 3"),
    "a key given twice": ("layers: 1", "layers: 1, layers: 1", "3: layers: is given twice"),
    "a section given twice": ("output: out", "output: out\noutput: in", "12: output: is given twice"),
    "a brace left open": ("layers: 1}", "layers: 1", "4: not valid YAML: expected ',' or '}'"),
    "a tab": ("  logits", "\tlogits", "6: not valid YAML: found character '\\t'"),
    "an unknown alias": ("teacher: teacher", "teacher: *other", "2: not valid YAML: found undefined alias"),
    "a tag": ("teacher: teacher", "teacher: !!python/name:os.system x", "2: cannot be read as YAML: "),
    "a date that is none": ("teacher: teacher", "teacher: 2001-99-99", "2: cannot be read as YAML: month"),
    "a list for a key": ("teacher: teacher", "[a, b]: teacher", "2: a key must be a word or a number"),
    "a second run of nothing": ("output: out", "---\nseed: 1", "12: Experiment needs 'task', 'student', 'losses'"),
    "a second run that is no mapping": ("output: out", "---", "12: the document is not a mapping of keys to values"),
    "broken YAML in a second run": ("output: out", "---\nseed: [1", "13: not valid YAML: "),
    "an empty file": (GOOD, "", "1: the file is not a mapping of keys to values"),
    "a list for a file": (GOOD, "- task", "1: the file is not a mapping of keys to values"),
    "an unknown option of the trainer": (
        "max_epochs",
        "max_epoch",
        "10: trainer.max_epoch: not a Trainer argument that a config can set; did you mean 'max_epochs'",
    ),
    "an option that the run sets": (
        "max_epochs: 1",
        "logger: true",
        "10: trainer.logger: not a Trainer argument that a config can set",
    ),
    "a text for the trainer's number": (
        "max_epochs: 1",
        "max_epochs: many",
        "10: trainer.max_epochs: 'many' is not a whole number",
    ),
    "no accumulation": (
        "max_epochs: 1",
        "accumulate_grad_batches: 0",
        "10: trainer.accumulate_grad_batches: must be at least 1, not 0",
    ),
    "a metric that is none of the task's": (
        "name: classification,",
        "name: token_classification, metric: f2,",
        "1: task.metric: 'f2' is not one of f1, accuracy; did you mean 'f1'?",
    ),
    "no words hidden": (
        "name: classification,",
        "name: masked_lm, mlm_probability: 0,",
        "1: task.mlm_probability: must lie in (0, 1], not 0",
    ),
    "a context without its answer": (
        "name: classification,",
        "name: question_answering, augment: {kind: NGrams},",
        "1: task.augment: a shortened context may have lost the answer",
    ),
    "raw text that is changed": (
        "name: classification,",
        "name: causal_lm, augment: {kind: Masking},",
        "1: task.augment: raw text is not augmented",
    ),
    "hidden words that are changed": (
        "name: classification,",
        "name: masked_lm, augment: {first: {kind: NGrams}},",
        "1: task.augment: raw text is not augmented",
    ),
    "what the teacher says of words that are drawn anew": (
        "name: classification, data: data.csv}\nteacher: teacher",
        "name: masked_lm, data: data.csv}\nteacher: {model: teacher, cache: true}",
        "2: teacher.cache: the rows of masked_lm are new in every epoch, so their outputs cannot be reused",
    ),
    "several teachers that point to places": (
        "name: classification, data: data.csv}\nteacher: teacher",
        "name: question_answering, data: data.csv}\nteacher: {members: {one: teacher, two: three}}",
        "2: teacher: several teachers' positions in a text cannot be combined; name one teacher for this task",
    ),
    "a list for the trainer": ("{max_epochs: 1, accelerator: cpu}", "[cpu]", "10: trainer: expected a mapping"),
}

IN_WORDS = {
    "--losses.logits.temprature=3": (
        "--losses.logits.temprature: Logits has no 'temprature'; did you mean 'temperature'?"
    ),
    "--optimiser.lr=3": "--optimiser.lr: Experiment has no 'optimiser'; did you mean 'optimizer'?",
    "--trainer.max_epoch=3": ("--trainer.max_epoch: not a Trainer argument that a config can set; did you mean"),
    "--student.layers=four": "--student.layers: 'four' is not a whole number",
    "--optimizer.lr=": "--optimizer.lr: None is not a number",
    "--optimizer={lr: fast}": "--optimizer: optimizer.lr: 'fast' is not a number",
    "--losses.logit.weight=3": "--losses.logit: losses has no 'logit'; did you mean 'logits'?",
    "--losses.extra={kind: Labels}": "--losses.extra: losses has no 'extra'; it has hidden, logits",
    "--prune.late.sparsity=0.5": "--prune.late.sparsity: Magnitude has no 'late'; it has sparsity,",
    "--teacher.model=teacher": "--teacher.model: 'teacher' is a plain value in the file; give it as a mapping first",
    "--optimizer.lr.x=3": "--optimizer.lr.x: 'lr' is a plain value in the file; give it as a mapping first",
    "--losses={a": "--losses: not valid YAML: ",
    "--seed=1\n---\n2": "--seed: not valid YAML: expected a single document",
    "--losses={}": "--losses: name at least one loss",
    "--name=a/b": "--name: 'a/b' is not the name of a folder",
    "--name=..": "--name: '..' is not the name of a folder",
    "--name": "--name: has no value",
    "--=3": "--: Experiment has no ''; it has imports, task,",
    "name=x": "name=x: not understood; an override is --dotted.key=value",
    "--output=data.csv": "--output: data.csv is a file, not a folder",
    "--resume": "x.yaml:1: name: there is no run in out/x to resume",
}
