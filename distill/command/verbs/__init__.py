"""The verbs of the command, a module each: its docstring is the help, ``add_arguments`` its options."""
