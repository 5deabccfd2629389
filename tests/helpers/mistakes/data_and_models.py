"""Configs that are wrong for the data or the models: what is changed in ``GOOD``, and the line that is printed."""

DATA_AND_MODELS = {
    "no such data": ("data.csv", "dta.csv", "1: task.data: there is no file or folder 'dta.csv'"),
    "no such folder of data": ("data.csv", "./dta", "1: task.data: there is no file or folder './dta'"),
    "no such data beside others": ("data.csv", "taken/data", "1: task.data: there is no file or folder 'taken/data'"),
    "no such data on the hub": (
        "data.csv",
        "nobody/nothing",
        "1: task.data: HF_HUB_OFFLINE is set and 'nobody/nothing' is not",
    ),
    "no data in the folder": ("data.csv", "empty", "1: task.data: the folder 'empty' has no train file"),
    "no such text": (
        "data.csv",
        "data.csv, text: sentence",
        "1: task.text: there is no column 'sentence'; there are text, label",
    ),
    "no such label": (
        "data.csv",
        "data.csv, label: lable",
        "1: task.label: there is no column 'lable'; there are text, label",
    ),
    "no room for text": (
        "data.csv",
        "data.csv, max_length: 2",
        "1: task.max_length: 2 leaves no room for text beside 2 special tokens",
    ),
    "rows longer than the model": (
        "data.csv",
        "long.csv, max_length: 200",
        "1: task.max_length: there are rows of 200 tokens, and teacher reads 128 at most",
    ),
    "no such teacher": ("teacher: teacher", "teacher: ./techer", "2: teacher.model: there is no folder './techer'"),
    "no such teacher on the hub": (
        "teacher: teacher",
        "teacher: nobody/nothing",
        "2: teacher: HF_HUB_OFFLINE is set and 'nobody/nothing' is not",
    ),
    "no model in the folder": ("teacher: teacher", "teacher: empty", "2: teacher.model: 'empty' holds no model"),
    "broken weights": ("teacher: teacher", "teacher: broken", "2: teacher: 'broken' cannot be loaded: "),
    "no tokenizer": ("teacher: teacher", "teacher: wordless", "2: teacher.model: 'wordless' has no tokenizer files"),
    "a teacher that was never trained": (
        "teacher: teacher",
        "teacher: headless",
        "2: teacher: 'headless' cannot be loaded: it has no classifier.bias",
    ),
    "a teacher of other classes": (
        "teacher: teacher",
        "teacher: three",
        "2: teacher.model: it has 3 outputs (a, b, c), the data 2 classes (LABEL_0, LABEL_1); if that is intended, ",
    ),
    "a teacher of classes for numbers": (
        "name: classification, data: data.csv",
        "name: regression, data: data.csv",
        "2: teacher.model: it has 2 outputs (0, 1), and a regression has one, a number",
    ),
    "texts for lists of words": (
        "name: classification, data: data.csv",
        "name: token_classification, data: data.csv, words: text, tags: label",
        "1: task.words: the column 'text' does not hold lists",
    ),
    "tags that are no entities": (
        "name: classification, data: data.csv",
        "name: token_classification, data: speech.jsonl",
        "1: task.metric: f1 needs tags B-..., I-... and O, not DET, NOUN; use accuracy",
    ),
    "a tag too few": (
        "name: classification, data: data.csv",
        "name: token_classification, data: untagged.jsonl",
        "1: task.data: untagged.jsonl line 2: 'ner_tags' has 1 tags for 2 words",
    ),
    "no column of answers": (
        "name: classification, data: data.csv",
        "name: question_answering, data: data.csv",
        "1: task.data: there is no column 'question'; there are text, label",
    ),
    "an answer that stands elsewhere": (
        "name: classification, data: data.csv",
        "name: question_answering, data: elsewhere.jsonl",
        "1: task.data: elsewhere.jsonl line 2: the answer 'film' is not at character 0",
    ),
    "a teacher that finds no answers": (
        "name: classification, data: data.csv",
        "name: question_answering, data: answers.jsonl",
        "2: teacher: 'teacher' cannot be loaded: it has no qa_outputs.bias, qa_outputs.weight; fine-tune it first",
    ),
    "a teacher that guesses no words": (
        "name: classification, data: data.csv",
        "name: masked_lm, data: data.csv, text: text",
        "2: teacher: 'teacher' cannot be loaded: it has no cls.predictions.",
    ),
    "no teacher": ("teacher: teacher\n", "", "2: student: a Transformer student is cut from a teacher"),
    "no such student": (
        "{kind: Transformer, layers: 1}",
        "./nowhere",
        "3: student.model: there is no folder './nowhere'",
    ),
    "a student deeper than its teacher": (
        "layers: 1",
        "layers: 9",
        "3: student.layers: the teacher has 2 blocks, not 9",
    ),
    "a student wider than its teacher": ("layers: 1", "hidden: 48", "3: student.hidden: the teacher has 24, not 48"),
    "heads that do not divide the teacher's size": (
        "layers: 1",
        "heads: 5",
        "3: student.heads: 5 heads do not divide a hidden size of 24",
    ),
    "a loss on a layer that is not there": (
        "kind: HiddenMSE",
        "kind: HiddenMSE, layers: {1: 7}",
        "5: losses.hidden.layers: the teacher has layers 0 to 2, not 7",
    ),
    "a temperature of nothing": ("temperature: 2.0", "temperature: 0", "6: losses.logits.temperature: must be above 0"),
}
