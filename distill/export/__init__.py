"""Export the trained student: fold, cut, save, write the file to deploy."""
