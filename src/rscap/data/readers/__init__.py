"""One module a format: each turns a file into rows and judges only what belongs to the file as a whole."""
