"""Report the result of a run: report.json, the page, the terminal, Weights & Biases."""
