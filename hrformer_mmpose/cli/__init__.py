"""The command `hrformer`: predict, export, benchmark, doctor, models.

`hrformer predict` with an exported network needs no PyTorch; therefore each command imports what it
needs when it is called.
"""
