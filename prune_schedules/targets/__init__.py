"""What is ranked and masked: entries, tiles, units, hidden dimensions."""
