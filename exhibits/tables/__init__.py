"""Rows to Tables 1 and 2, tables of real tasks and of speed, published scores, claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "published": ["anchors", "below", "conditions", "not_run", "published_scores"],
        "clusters": ["entries_inside", "kmeans_entries", "paper_kmeans"],
        "protocol": ["KNOWN", "choices", "input_rules"],
        "printed": ["score_table", "table1", "table2", "text_results", "text_table2"],
        "rows": ["BASELINES", "MODELS", "PROBE_NAMES", "TABLE2_TASKS"],
        "timing": ["memory_growth", "speed", "speed_ratios"],
        "summary": ["comparisons", "gains", "knn_accuracy", "mean_accuracy", "over_seeds"],
        "claims": ["verdicts"],
    },
)
