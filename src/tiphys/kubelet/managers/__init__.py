"""CPUs and memory that containers have for themselves, near to each other and to their devices (KEP-693, 1769, 3545).

`layout.py` reads what is where in the machine, `hints.py` merges what each manager would like, `picking.py` chooses
CPUs, `cpus.py` and `memory.py` decide and keep who has what, `manager.py` asks them in order and writes it down.
"""
