"""A small T5 with random weights and a tokenizer of its own, a teacher for translation without the model hub.

``python -m benchmarks.inputs.translator PAIRS.parquet FOLDER``; ``benchmarks/configs/seq2seq/multi30k.yaml``
trains it, with its folder instead of ``google-t5/t5-small``.
"""

import argparse

import pyarrow.parquet
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import Unigram
from tokenizers.normalizers import NFKC
from tokenizers.pre_tokenizers import Metaspace as Cut
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import UnigramTrainer
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, set_seed


def train_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Return a Unigram tokenizer with the special tokens and ids of T5."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = NFKC(), Cut(), Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def main() -> None:
    """Train the tokenizer on all text columns, and write model and tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs")
    parser.add_argument("folder")
    options = parser.parse_args()
    table = pyarrow.parquet.read_table(options.pairs)
    tokenizer = train_tokenizer([text for name in table.column_names for text in table[name].to_pylist()], 8000)
    set_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=256,
        d_kv=64,
        d_ff=1024,
        num_heads=4,
        num_layers=4,
        num_decoder_layers=4,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)


if __name__ == "__main__":
    main()
