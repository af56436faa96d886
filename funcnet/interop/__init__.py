"""How funcnet meets other libraries. The rest of the package imports none of these files.

The public functions for a library are in the file with its name; other files of the library begin with it.
"""
