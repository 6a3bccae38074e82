"""What a reader sees of measurements: blocks (`block`), and what renders them.

A record has a file that makes its blocks, and a line in `records.BLOCKS`; an output has a file that
renders any blocks, and a line in `write.DOCUMENTS` or, if it draws charts alone, `write.FIGURES`.
"""
