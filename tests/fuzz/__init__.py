"""Coverage-guided fuzzing of everything that reads files: `python -m tests.fuzz`, or ``make fuzz``."""
