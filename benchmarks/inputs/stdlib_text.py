"""The quickstart's data set: documentation of Python's standard library, classified by area of the library.

Every Python installation has this text, so a first run needs no download. Files are parsed, never imported.
``python -m benchmarks.inputs.stdlib_text FOLDER`` writes the data and prints the number of rows of each class.
"""

import argparse
import ast
import hashlib
import re
import sysconfig
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features, Value

# Area: its top-level modules and packages. Other modules are left out (encodings are tables, some belong to no area);
# names that this Python does not have are ignored.
AREAS = {
    "concurrency": "_threading_local asyncio concurrent contextvars multiprocessing queue sched selectors "
    "signal subprocess threading",
    "data formats": "_markupbase csv dbm html json pickle pickletools plistlib shelve sqlite3 tomllib xml",
    "files": "_compression _pyio bz2 filecmp fileinput fnmatch genericpath glob gzip io lzma ntpath os "
    "pathlib posixpath shutil stat tarfile tempfile zipfile",
    "gui": "idlelib tkinter turtle turtledemo",
    "language": "_collections_abc abc ast collections contextlib copy copyreg dataclasses dis enum functools "
    "inspect lib2to3 operator symtable tokenize types typing weakref",
    "mail": "email mailbox mailcap quopri",
    "networking": "asynchat asyncore cgi ftplib http imaplib ipaddress netrc nntplib poplib smtpd smtplib "
    "socket socketserver ssl telnetlib urllib webbrowser wsgiref xmlrpc",
    "numbers and dates": "_pydatetime _pydecimal _strptime bisect calendar colorsys datetime fractions "
    "hashlib heapq hmac numbers random secrets statistics zoneinfo",
    "packaging": "compileall distutils ensurepip importlib modulefinder pkgutil py_compile runpy site "
    "sysconfig venv zipapp zipimport",
    "testing and debugging": "bdb cProfile doctest linecache pdb profile pstats timeit trace traceback "
    "tracemalloc unittest",
}
TEST_FOLDERS = {"test", "tests", "idle_test"}  # left out: many distributions do not ship them
SPLITS = ("train", "validation")
MIN_WORDS, MAX_WORDS = 8, 60
MIN_VALIDATION = 20  # passages of an area
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

COMMENT_BLOCK = re.compile(r"(?:^[ \t]*#.*\n){2,}", re.MULTILINE)
COMMENT_START = re.compile(r"^\s*#+[!:]?\s?", re.MULTILINE)
MARKUP = re.compile(r":\w+:(?=`)|[`*|]|[-=~_^#+]{3,}|^\s*[-o]\s", re.MULTILINE)
SENTENCE_END = re.compile(r"(?<=[.!?:]) (?=[A-Z\"(])")
BOILERPLATE = re.compile(r"copyright|licen[cs]e|redistribut|warranty|authors?:|\S@\S", re.IGNORECASE)
PLAIN_WORD = re.compile(r"[\"'(]*[A-Za-z][A-Za-z'/-]*[.,;:!?)\"']*")


@dataclass(frozen=True)
class Passage:
    """A passage of 8 to 60 words of documentation, with its area, module and split."""

    text: str
    label: str
    module: str
    split: str


def passages(library: Path | None = None) -> list[Passage]:
    """Return the passages of the standard library, or of another folder with its modules, by area and module.

    About a fifth of each area's passages are the validation split. All passages of a module are in the same split, and
    no sentence is used twice. An area with too few validation passages is left out: Debian, for example, packages most
    GUI modules separately.

    Raises:
        ValueError: if the folder has none of the modules.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    area_of = {name: area for area, names in AREAS.items() for name in names.split()}
    texts: dict[str, dict[str, list[str]]] = defaultdict(dict)
    seen: set[str] = set()
    for name, area in sorted(area_of.items()):
        for path in sorted([*library.glob(f"{name}.py"), *(library / name).rglob("*.py")]):
            parts = path.relative_to(library).with_suffix("").parts
            if not TEST_FOLDERS.isdisjoint(parts):
                continue
            with tokenize.open(path) as file:
                packed = pack(new_sentences(documentation(file.read()), seen))
            if packed:
                texts[area][".".join(part for part in parts if part != "__init__")] = packed

    result = []
    for area, modules in sorted(texts.items()):
        held_out = choose_held_out({module: len(module_texts) for module, module_texts in modules.items()})
        if sum(len(modules[module]) for module in held_out) < MIN_VALIDATION:
            continue
        for module, module_texts in modules.items():
            split = "validation" if module in held_out else "train"
            result += [Passage(text, area, module, split) for text in module_texts]
    if not result:
        raise ValueError(f"library: no standard library source in {library}")
    return result


def documentation(source: str) -> list[str]:
    """Return the docstrings and comment blocks of two or more lines of a Python source, in order."""
    located: list[tuple[int, str]] = []
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:  # ast.walk would visit a million expressions for few more definitions
        node = nodes.pop()
        nodes += getattr(node, "body", [])
        if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
            located.append((node.body[0].lineno, docstring))
    # By line, not by token, which is slow; a line of a string taken for a comment does no harm.
    for block in COMMENT_BLOCK.finditer(source):
        located.append((source.count("\n", 0, block.start()) + 1, COMMENT_START.sub("", block[0])))
    return [text for _, text in sorted(located)]


def new_sentences(texts: Iterable[str], seen: set[str]) -> Iterator[list[str]]:
    """Yield the sentences that are not in ``seen`` as lists of words, without markup, code and legal notes."""
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            plain = " ".join(MARKUP.sub("", paragraph.split(">>>")[0]).split())
            for sentence in SENTENCE_END.split(plain):
                words = sentence.split()
                plain_words = sum(PLAIN_WORD.fullmatch(word) is not None for word in words)
                if len(words) < 2 or plain_words < 0.6 * len(words) or BOILERPLATE.search(sentence):
                    continue
                if sentence.lower() not in seen:
                    seen.add(sentence.lower())
                    yield words


def pack(sentences: Iterable[list[str]]) -> list[str]:
    """Join neighbouring sentences into passages of at most ``MAX_WORDS``; drop those under ``MIN_WORDS``."""
    packed: list[list[str]] = [[]]
    for words in sentences:
        for piece in (words[i : i + MAX_WORDS] for i in range(0, len(words), MAX_WORDS)):
            if len(packed[-1]) + len(piece) > MAX_WORDS:
                packed.append([])
            packed[-1] += piece
    return [" ".join(words) for words in packed if len(words) >= MIN_WORDS]


def choose_held_out(sizes: dict[str, int]) -> set[str]:
    """Return the modules of the validation split: at most a fifth of the area's passages.

    Modules are tried in the order of a hash of their names. A module with more than a tenth of the area is never held
    out, so that validation has many modules of each area.

    Args:
        sizes: the number of passages of each module.
    """
    total, taken = sum(sizes.values()), 0
    chosen = set()
    for module in sorted(sizes, key=lambda module: hashlib.sha256(module.encode()).hexdigest()):
        if sizes[module] <= total / 10 and taken + sizes[module] <= total / 5:
            chosen.add(module)
            taken += sizes[module]
    return chosen


def write(folder: Path) -> None:
    """Write train.parquet and validation.parquet (columns text, label, module) unless both exist."""
    if all((folder / f"{split}.parquet").exists() for split in SPLITS):
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = passages()
    labels = ClassLabel(names=sorted({row.label for row in rows}))
    features = Features({"text": Value("string"), "label": labels, "module": Value("string")})
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for split in SPLITS:
            columns = {name: [getattr(row, name) for row in rows if row.split == split] for name in features}
            Dataset.from_dict(columns, features=features).to_parquet(Path(temporary) / split)
        for split in SPLITS:
            (Path(temporary) / split).replace(folder / f"{split}.parquet")


def train_tokenizer(data: Path, out: Path, vocab_size: int = 8000) -> None:
    """Train a lower-case WordPiece tokenizer like BERT's on train.parquet, and save it in ``out``.

    Raises:
        ValueError: if there is no train.parquet.
    """
    # Not at the top: writing the data set needs none of this.
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if not (data / "train.parquet").exists():
        raise ValueError(f"data: no train.parquet in {data}")
    texts = pyarrow.parquet.read_table(data / "train.parquet", columns=["text"])["text"].to_pylist()
    normalizer, words = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, words
    # The trainer numbers ##a, ##b, ... in the random order of a hash map and breaks ties by these numbers
    # (tokenizers issue 1794). Initial tokens it numbers in the given order.
    letters = sorted({letter for text in texts for letter in normalizer.normalize_str(text)} - {" "})
    begin = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"##{letter}" for letter in letters)]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=begin, show_progress=False)
    learner.train_from_iterator(texts, trainer)

    # A new tokenizer: for the learner all initial tokens are special tokens.
    tokenizer = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, words
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(out)


def main() -> None:
    """Write the data set and print a table of its classes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inputs.stdlib_text", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the two parquet files go")
    folder = parser.parse_args().folder
    write(folder)
    tables = {split: pyarrow.parquet.read_table(folder / f"{split}.parquet") for split in SPLITS}
    labels = Features.from_arrow_schema(tables["train"].schema)["label"]
    counts = {split: Counter(labels.int2str(tables[split]["label"].to_pylist())) for split in SPLITS}
    print(f"{'class':<22}{'train':>8}{'validation':>12}")
    for label in labels.names:
        print(f"{label:<22}{counts['train'][label]:>8}{counts['validation'][label]:>12}")


if __name__ == "__main__":
    main()
