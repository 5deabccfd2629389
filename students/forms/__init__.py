"""Forms: changes of a student's architecture that combine freely, and the models that hold them."""
