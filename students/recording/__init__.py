"""Record the signals of a forward pass for the losses."""
