"""Stage 5: gate and experts trained together into one recogniser."""
