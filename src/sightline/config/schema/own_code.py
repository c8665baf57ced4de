"""What the keys mean that say whose code a task may run; every task that builds objects has them."""

EXTENSIONS = "a folder of own code: its modules can be named by `_target_`, and its configs/ are searched"
TRUST_CODE = "true: also run code that a run or a job names and nobody here has typed, or that has changed since"
CODE_SHA256 = "of a job or a run: the hash of each package of own code, as it was then"
