"""`make demo`: the whole story on one machine without GPU, internet or AWS, told by the real commands.

Questions are curated, a captioner learns from them, and the datasets that it writes before and after are compared.
"""
