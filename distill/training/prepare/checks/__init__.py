"""Whether rows, tokenizers, teachers and student fit each other, tried before the first step."""
