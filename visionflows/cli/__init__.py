"""The command line: it parses options, calls a flow or function, and prints the result."""
