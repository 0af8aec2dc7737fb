"""Where training queries come from, and what becomes of them: the rooms of the stage generate.

sample.py    which documents are asked about
extracts.py  their own words as drafts
model.py     what a language model writes about them
people.py    what people asked: a query log, and queries with known documents
judging.py   drafts to rows of queries, or of dropped_by_generate with a reason
"""
