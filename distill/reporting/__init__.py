"""The result for people: report.json, the page, the terminal, Weights & Biases."""
