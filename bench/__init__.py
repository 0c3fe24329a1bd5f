"""How fast tunneler is beside other programs that solve the same problem; see README.md."""
