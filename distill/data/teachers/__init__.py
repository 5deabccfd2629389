"""What teachers read and say of rows: inputs in tokens of their own, and outputs that are recorded."""
