"""The passes of conversion, one idea a file, each a function from Graph to Graph."""
