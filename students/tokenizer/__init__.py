"""Cut a tokenizer and its model down to fewer tokens."""
