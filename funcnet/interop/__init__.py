"""How funcnet meets other libraries: one library a file, none of which the rest of the package imports."""
