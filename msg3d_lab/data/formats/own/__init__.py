"""Your own recordings: a long table or a folder of arrays, with labels and a joint layout."""
