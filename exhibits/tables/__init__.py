"""Rows to Tables 1 and 2, tables of real tasks and of speed, published scores, claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "published": ["anchors", "below", "not_run", "published_points"],
        "clusters": [
            "best_of_two_classes",
            "chance",
            "entries_below",
            "entries_inside",
            "kmeans_entries",
            "paper_kmeans",
        ],
        "protocol": ["KNOWN", "choices", "input_rules"],
        "printed": ["other_tasks", "real_table", "table1", "table2"],
        "text": ["text_evaluation", "text_results", "text_table2"],
        "rows": ["BASELINES", "MODELS", "PROBE_NAMES"],
        "timing": ["memory_growth", "rates", "speed", "speed_ratios", "stage_seconds"],
        "summary": ["comparisons", "gains", "knn_accuracy", "mean_accuracy", "over_seeds"],
        "claims": ["verdicts"],
    },
)
