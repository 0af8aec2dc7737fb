"""The settings of training. Defaults are those of arXiv 2502.19712."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hone.config import Resource, Seed, Settings


class LossSettings(Settings):
    """kl_weight x KL(softmax(teacher / teacher_tau) || softmax(cosine / student_tau)) + infonce_weight x InfoNCE
    + margin_mse_weight x MarginMSE + anchor_weight x Anchor."""

    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the listwise loss."""
    infonce_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the masked InfoNCE loss; 0 leaves it out."""
    margin_mse_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared error of the margins between the first passage and the others; 0 leaves it out."""
    anchor_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the mean of 1 - cosine between what the student makes of each text of the batch and what it made of it
    before training: holds it near to where it was, against forgetting; 0 leaves it out."""
    teacher_tau: Annotated[float, Field(gt=0)] = 0.3
    """Temperature of the teacher's normalised scores."""
    student_tau: Annotated[float, Field(ge=0)] = 0.05
    """Temperature of the student's cosines in the listwise loss; 0 takes the one at which the untrained student comes
    closest to the teacher, so that training moves ranks and not scales."""
    infonce_tau: Annotated[float, Field(gt=0)] = 0.01
    """Temperature of the cosines in InfoNCE."""
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Passages of a query's own list above this share of its top score are not negatives."""

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not (self.kl_weight or self.infonce_weight or self.margin_mse_weight):
            raise ValueError("give kl_weight, infonce_weight or margin_mse_weight a value other than 0")
        return self


class OneTraining(Settings):
    """What holds for one training; a stage may run two, one after another."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.compile and (self.train == "head" or self.train_layers):
            raise ValueError("compile works only where all layers are trained: with train: layers and train_layers: 0")
        if self.cluster_batches and self.docs_per_step:
            raise ValueError("give cluster_batches or docs_per_step, not both: each says which lists make a step")
        return self

    loss: LossSettings = LossSettings()
    """The loss."""
    batch_size: Annotated[int, Field(ge=1)] = 4096
    """Lists per step."""
    min_steps_per_epoch: Annotated[int, Field(ge=1)] = 10
    """A corpus with few lists takes smaller steps, so that an epoch has at least this many."""
    max_epochs: Annotated[int, Field(ge=1)] = 30
    """Upper limit of passes over the lists."""
    max_steps: Annotated[int, Field(ge=0)] = 0
    """Upper limit of steps; 0 sets none."""
    minutes: Annotated[float, Field(ge=0)] = 0.0
    """Upper limit of minutes spent on steps; 0 sets none. After the warm-up it is known how long a step takes on this
    machine: how many fit is settled then and recorded, and the learning rate falls over just these."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""
    pull: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the way back to the untrained weights that each step takes at the peak learning rate, less as the rate
    falls: holds layers near to where they were, as weight decay holds the head."""
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    """Warm-up is the larger of this and half an epoch, or just this where `minutes` limit the steps."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are cut to this norm."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Training stops after this many looks at the dev lists that were no better than the best."""
    choose_by: Literal["listwise", "total", "ndcg"] = "listwise"
    """What says which weights are best on the dev lists: the listwise loss, the whole loss, or nDCG@10 with the
    teacher's scores as gains."""
    eval_every: Annotated[int, Field(ge=0)] = 0
    """Steps between looks at the dev lists; 0 looks once an epoch."""
    dev_lists: Annotated[int, Field(ge=0)] = 0
    """Most dev lists that a look takes, since it encodes all of their documents; 0 takes every one."""
    train: Literal["layers", "head", "lora"] = "layers"
    """layers: the transformer's own. head: freeze them and train a linear map over their vectors, kept as a Dense
    module of the student; every text is encoded once, so that a step costs next to nothing and a CPU is enough.
    lora: freeze them and train a low-rank addition to each linear map, merged into the saved weights."""
    lora_rank: Annotated[int, Field(gt=0)] = 16
    """Rank of the additions of `train: lora`."""
    lora_alpha: Annotated[int, Field(gt=0)] = 32
    """They count alpha / rank times."""
    train_layers: Annotated[int, Field(ge=0)] = 0
    """Train only this many top layers and freeze the rest; 0 trains all. What enters them is computed once per text."""
    cluster_batches: bool = False
    """Put lists that share documents into one batch, so that fewer documents are encoded; anew each epoch."""
    docs_per_step: Annotated[int, Field(ge=0)] = 0
    """Give each step about this many documents, and ask `batch_size` queries near them about all of these that are on
    their lists: encoding documents is what costs, and so one teaches many queries. Wants long lists (`list_size`).
    0 takes lists whole."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a running average of the weights, which is then what is judged and kept; 0 keeps none."""
    gradient_checkpointing: Annotated[bool, Resource()] = False
    """Keep only what enters each layer and compute the rest again: less memory for a third more time, the same
    gradients."""
    compile: Annotated[bool, Resource()] = False
    """Run the student through torch.compile: slow to start, faster on a GPU from then on. Only where all layers are
    trained."""


class TrainingSettings(OneTraining):
    """What the trainer needs to know: one training, and what holds for every one of a stage."""

    seed: Seed = 17
    """Shuffles the lists."""
    domains: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """Domains whose lists one student is trained on, each with its weight: a step takes lists of a single domain, drawn
    by weight. `hone run FOLDER` fills it in from `general`; empty trains on the lists of this run."""
    token_budget: Annotated[int, Resource(), Field(ge=1)] = 8192
    """Most tokens of one micro-batch, padding included; a processor takes no more than it is fast with."""
    memory_gb: Annotated[float, Resource(), Field(ge=0)] = 0.0
    """Gigabytes that activations may take (on a CPU with kept states of frozen layers); what does not fit is computed
    twice. 0 takes half of what is free."""
    tensorboard: Annotated[str, Resource()] = ""
    """Folder for TensorBoard's event files: every step's loss terms, rates and savings, and the looks at the dev lists;
    empty writes none."""
    mlflow: Annotated[str, Resource()] = ""
    """Address of an MLflow tracking server for the same figures; empty for none."""
    checkpoint_every: Annotated[int, Resource(), Field(ge=0)] = 20
    """Steps between checkpoints, from which a training that was cut off goes on to the same weights, or five minutes
    where steps are slow; 0 makes none."""
