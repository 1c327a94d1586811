"""Networks that change: memories that lead from one interval of time to the next."""
