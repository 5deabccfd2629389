"""The loop: module, trainer, optimizer, batches, strategies."""
