"""What a forward pass leaves behind for the losses."""
