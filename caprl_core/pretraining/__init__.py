"""What a captioned dataset is for: the starting checkpoint that pretraining begins with, and where it comes from.

The recipes for the pretraining itself are LLaMA-Factory's and stand in `configs/pretraining/`.
"""
