"""A benchmark of people: natives, other accents, and learners, adults and children."""
