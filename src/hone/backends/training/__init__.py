"""Listwise distillation of a student.

batches.py      lists to batches; each distinct passage of a batch once
losses.py       the losses, each a pure function
embedders.py    texts to vectors: through the whole model, or through the trained layers alone
gradients.py    one batch's gradients within a memory limit, shared by processes
meters.py       how fast it goes and what is saved, for progress and trackers
loop.py         steps, looks at the dev lists, early stopping
"""
