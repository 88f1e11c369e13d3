"""Cut recordings over 30 s at pauses, each piece with its stretch of the transcript."""
