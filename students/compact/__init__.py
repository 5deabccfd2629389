"""Models of forms that no stock config can say, and the writing of their sizes into one."""
