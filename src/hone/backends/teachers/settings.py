"""The settings of the teacher."""

from collections.abc import Mapping, Set
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hone.backends import BACKENDS
from hone.backends.encoders.families import Student
from hone.backends.precision import PrecisionSetting
from hone.config import Address, Backend, ModelSource, Resource, Settings, identity


class RerankServer(Settings):
    """A `/rerank` endpoint. Its key comes from the environment, never from the settings."""

    url: Address = ""
    """The whole address, such as http://127.0.0.1:8080/rerank."""
    shape: Literal["tei", "cohere", "jina"] = "tei"
    """How it talks: text-embeddings-inference (asked for raw scores), Cohere or Jina (vLLM and others talk so too)."""
    model: str = ""
    """cohere and jina: the name under which the server offers the model."""
    revision: str = ""
    """Which revision of the model that is, in your own words: after a change of it everything is scored anew."""
    probabilities: bool = False
    """The server sends sigmoids: they are turned back into logits, so that the scores' spread is that of the model."""
    docs_per_request: Annotated[int, Resource()] = Field(default=32, ge=1)
    """Documents sent at once."""
    concurrency: Annotated[int, Resource()] = Field(default=8, ge=1)
    """Requests under way at once."""
    timeout: Annotated[float, Resource()] = Field(default=60.0, gt=0)
    """Seconds after which a request is given up and sent again."""
    attempts: Annotated[int, Resource()] = Field(default=8, ge=1)
    """How often a request is sent before the run stops; what is finished is kept."""
    first_wait: Annotated[float, Resource()] = Field(default=0.5, ge=0)
    """Seconds before the second attempt; each further wait is twice as long, up to 8."""
    key_variable: Annotated[str, Resource()] = "RERANK_API_KEY"
    """The environment variable that holds the key; without it none is sent."""


class Mix(Settings):
    """One way of mixing the two opinions of the fusion."""

    lexical_weight: float = Field(default=0.3, ge=0, le=1)
    """As teacher.lexical_weight."""
    centred: bool = False
    """As teacher.centred."""
    encoder_weight: float = Field(default=1.0, ge=0, le=1)
    """As teacher.encoder_weight."""


_MODEL = frozenset({"model", "max_tokens"})
_PAIRS = _MODEL | {"precision", "trust_code"}
_VLLM = _MODEL | {"tensor_parallel", "gpu_memory"}
FIELDS: Mapping[str, Set[str]] = {
    "fusion": frozenset(
        {"lexical_weight", "centred", "encoders", "encoder_weight", "feedback_docs", "feedback_weight", "pool"}
        | {"mixes", "encoder_weights"}
    ),
    "ensemble": frozenset({"members", "choose_weights"}),
    "cross_encoder": _PAIRS,
    "monot5": _PAIRS,
    "rankt5": _PAIRS,
    "yes_no": _PAIRS | {"instruction", "prompt", "answers"},
    "bge_lightweight": _PAIRS | {"instruction"},
    "query_likelihood": _MODEL | {"precision", "instruction"},
    "vllm": _VLLM,
    "vllm_yes_no": _VLLM | {"instruction", "prompt", "answers"},
    "vllm_query_likelihood": _VLLM | {"instruction"},
    "endpoint": frozenset({"server"}),
}
"""The settings that each kind reads, beside those that all have: kind, weight and force."""


class OneTeacher(Settings):
    """One scorer of the candidates."""

    kind: Annotated[str, Backend("teacher")] = "cross_encoder"
    """cross_encoder: any sequence-classification folder, raw logits. monot5, rankt5: T5 rerankers. yes_no: a causal
    language model in the form of Qwen3-Reranker. vllm, vllm_yes_no: the first and the last of these in vLLM, which is
    faster on a GPU. bge_lightweight: BGE gemma2-lightweight, which runs its own code. query_likelihood: any causal
    language model, by how likely it finds the query after the document; it need not be trained to rank.
    vllm_query_likelihood: the same in vLLM.
    endpoint: a served reranker, see teacher.server. fusion: BM25 + student, needs no weights, and can take further
    encoders, see teacher.encoders. ensemble: the weighted
    mean of teacher.members."""
    model: ModelSource = ""
    """The folder of the model; fusion, endpoint and ensemble need none."""
    server: RerankServer = RerankServer()
    """The server of the kind endpoint."""
    max_tokens: int = Field(default=512, ge=16)
    """Query and document together are cut to this many tokens."""
    precision: PrecisionSetting = "fp32"
    """Weights and matrix products of the model. auto takes bf16 where the GPU or the processor computes in it, else
    fp32."""
    instruction: str = ""
    """yes_no and bge_lightweight: what the model is asked to judge by; empty takes what it was trained with.
    query_likelihood and vllm_query_likelihood: what stands between document and query."""
    prompt: str = ""
    """yes_no and vllm_yes_no: what a model that is not trained to rerank is asked, with {query}, {document} and perhaps
    {instruction}; it becomes the user's turn of the model's own chat. Empty takes the form of Qwen3-Reranker."""
    answers: tuple[str, str] = ("yes", "no")
    """yes_no and vllm_yes_no: the model's words for relevant and not relevant, one token each; their log-odds are the
    score."""
    trust_code: str = ""
    """A model that brings its own code is run only if this is the sha256 of its folder, which the refusal names."""
    tensor_parallel: Annotated[int, Resource()] = Field(default=1, ge=1)
    """The kinds in vLLM: GPUs over which the model is spread."""
    gpu_memory: Annotated[float, Resource()] = Field(default=0.8, gt=0, le=1)
    """The kinds in vLLM: share of the GPU's memory that vLLM takes; the student needs some of it too."""
    weight: float = Field(default=1.0, gt=0)
    """As a member of an ensemble: its share beside the others'."""
    lexical_weight: float = Field(default=0.3, ge=0, le=1)
    """fusion: the share of BM25 beside the student's cosine, both standardised over a query's pool."""
    centred: bool = False
    """fusion: take the mean of all documents off the student's vectors first, since documents of one domain are alike
    in what says least about each of them."""
    encoders: tuple[Student, ...] = ()
    """fusion: further encoders, such as a larger one than the student, each with its own prompts and pooling. They
    encode every document once; a query and a document cost a dot product from then on."""
    encoder_weight: float = Field(default=1.0, ge=0, le=1)
    """fusion: the share that the encoders have together, beside the student's, in what is not BM25's."""
    feedback_docs: int = Field(default=3, ge=0)
    """fusion: how many of the best documents move the query for a second opinion; 0 for none."""
    feedback_weight: float = Field(default=0.5, ge=0)
    """fusion: how far they move it."""
    pool: int = Field(default=100, ge=1)
    """fusion: the student's and BM25's best so many form the pool over which scores are standardised."""

    @field_validator("prompt")
    @classmethod
    def _asks_about_both(cls, value: str) -> str:
        if value and not ("{query}" in value and "{document}" in value):
            raise ValueError("the prompt has to hold {query} and {document}")
        return value

    @property
    def name(self) -> str:
        """What facts and messages call it."""
        folder = self.model.rstrip("/").rpartition("/")[2]
        return f"{self.kind} {folder}" if folder else self.kind

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BACKENDS["teacher"]:
            raise ValueError(f"no such teacher; the kinds are {', '.join(sorted(BACKENDS['teacher']))}")
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        """A setting that the kind does not read would change nothing, and whoever wrote it expects that it does."""
        known = {"kind", "weight", "force"} | FIELDS[self.kind]
        for name in sorted(self.model_fields_set - known):
            if getattr(self, name) != type(self).model_fields[name].get_default():
                kinds = ", ".join(kind for kind, fields in FIELDS.items() if name in fields)
                raise ValueError(f"{name} is not a setting of a teacher of the kind {self.kind}, but of {kinds}")
        return self

    def identity(self, digests: Mapping[str, str]) -> Any:
        """What a score of this teacher depends on: all settings of its kind that shape scores; models by content."""
        shaping: dict[str, Any] = identity(self, digests)
        return {name: value for name, value in shaping.items() if name == "kind" or name in FIELDS[self.kind]}


class Teacher(OneTeacher):
    """Who scores the candidates."""

    members: tuple[OneTeacher, ...] = ()
    """ensemble: the teachers it is made of. Each one's scores are standardised over the queries that qualify it."""
    choose_weights: bool = True
    """ensemble: the judged dev queries choose the members' weights, in quarters and those that the settings give; one
    that gets none is not asked for the bulk. Without judged queries the members' own weights stand."""
    mixes: tuple[Mix, ...] = ()
    """fusion: ways of mixing of which the judged dev queries choose the best; without any, teacher's own stands."""
    encoder_weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (1.0, 0.5)
    """fusion with encoders: shares of theirs of which the dev queries choose too, beside the mixes; the student is the
    rest, and learns nothing from its own opinion, so that equals go to the larger share."""
    force: bool = False
    """Train even with a teacher that did not beat the student."""

    @property
    def pairwise(self) -> bool:
        """Whether its opinion of a document does not depend on the others; so it is with all kinds but fusion."""
        return "fusion" not in (self.kind, *(member.kind for member in self.members))

    @property
    def member_names(self) -> list[str]:
        """The members of the ensemble, equal ones numbered."""
        names = [member.name for member in self.members]
        before = [names[:at].count(name) for at, name in enumerate(names)]
        return [f"{name} ({count + 1})" if count else name for name, count in zip(names, before, strict=True)]

    @property
    def choices(self) -> tuple[Mix, ...]:
        """The ways of mixing that the dev queries choose from; with encoders, each mix with each share of theirs."""
        if not self.encoders:
            return self.mixes
        shares = self.encoder_weights
        return tuple(mix.model_copy(update={"encoder_weight": share}) for mix in self.mixes for share in shares)

    def figures(self, mix: Mix) -> dict[str, float | bool]:
        """A mix as facts name it."""
        return mix.model_dump(exclude=None if self.encoders else {"encoder_weight"})

    def mixed(self, mix: Mix) -> "Teacher":
        """The same with another mix."""
        return self.model_copy(update=dict(mix))

    def weighed(self, weights: Mapping[str, float]) -> "Teacher":
        """The ensemble with other weights, by the members' names, and without the members that have none."""
        pairs = zip(self.members, map(weights.__getitem__, self.member_names), strict=True)
        members = tuple(one.model_copy(update={"weight": weight}) for one, weight in pairs if weight)
        return self.model_copy(update={"members": members})

    @property
    def matches_words(self) -> bool:
        """Whether its opinion rests on shared words: that of fusion does."""
        return not self.pairwise
