"""A tokenizer and its model cut down to fewer tokens."""
