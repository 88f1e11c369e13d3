"""Word error rates of transformers' own Whisper: the number that a run's bare backbone must have.

    python benchmarks/transformers_wer.py WHISPER_FOLDER --test sentences_en_test.jsonl --by domain

Greedy `generate` over 30 s, in each recording's language; texts are normalised as `moe-lightning evaluate` does it.
"""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from recordings import Row, read_rows, waveforms, word_error_rate
from transformers import WhisperForConditionalGeneration, WhisperProcessor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whisper", help="folder or hub id of a Whisper model")
    parser.add_argument("--test", type=Path, required=True, help="manifest, one JSON object a line")
    parser.add_argument("--by", help="field of the manifest; its groups are scored too")
    options = parser.parse_args()
    rows = sorted(read_rows(options.test), key=lambda row: str(row["language"]))
    texts = transcribe(options.whisper, rows)
    print(f"| group | recordings | WER, % |\n|---|---|---|\n| all | {len(rows)} | {word_error_rate(rows, texts):.1f} |")
    groups = sorted({str(row.get(options.by)) for row in rows}) if options.by else []
    for group in groups:
        places = [place for place, row in enumerate(rows) if str(row.get(options.by)) == group]
        rate = word_error_rate([rows[place] for place in places], [texts[place] for place in places])
        print(f"| {group} | {len(places)} | {rate:.1f} |")


@torch.inference_mode()
def transcribe(whisper: str, rows: Sequence[Row], batch_size: int = 16) -> list[str]:
    """Texts of rows that are sorted by language."""
    model, processor = (
        WhisperForConditionalGeneration.from_pretrained(whisper),
        WhisperProcessor.from_pretrained(whisper),
    )
    is_multilingual, texts = getattr(model.generation_config, "is_multilingual", True), []
    for language, of_language in groupby(rows, key=lambda row: row["language"]):
        asked = {"language": language, "task": "transcribe"} if is_multilingual else {}
        found = list(of_language)
        for start in range(0, len(found), batch_size):
            waveforms_BL, lengths_B = waveforms(found[start : start + batch_size])
            read = [row_L[:length].numpy() for row_L, length in zip(waveforms_BL, lengths_B.tolist(), strict=True)]
            features = processor.feature_extractor(read, sampling_rate=16_000, return_tensors="pt").input_features
            tokens = model.generate(features, do_sample=False, num_beams=1, **asked)
            texts += processor.batch_decode(tokens, skip_special_tokens=True)
    return texts


if __name__ == "__main__":
    main()
