"""Demo corpus: speech of several populations, synthesised by espeak-ng, so that the pipeline runs anywhere."""

from moe_lightning.corpus.demo.corpus import default_cache_dir, demo_corpus

__all__ = ["default_cache_dir", "demo_corpus"]
