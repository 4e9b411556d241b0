"""Commands: one module each, with `parser()` and `run(args)`.

`hrformer predict` with an exported network needs no PyTorch. `main` therefore imports only the
module of the command that is run.
"""
