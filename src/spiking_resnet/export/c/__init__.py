"""Export to C: the integer form as one C99 file and its header."""
