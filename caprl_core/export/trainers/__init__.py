"""The formats of trainers, one a file: what an example looks like there, what lies beside it, how it is loaded."""
