"""Detection, few-shot and open-set accuracy of Faultcube beside baselines, on public data sets.

Imports `models`, `training`, `benchmarks.harness` and `benchmarks.losses`.
"""
