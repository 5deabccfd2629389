"""How a student is built: a class for each kind."""
