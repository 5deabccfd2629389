"""Teachers that judge texts by the words of the classes: prompted language models, endpoints, several of them."""
