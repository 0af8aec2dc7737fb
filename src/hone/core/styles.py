"""What a language model is asked for: query styles as rows, and the prompt they make.

The six styles, 3 examples drawn per document and the decoding follow section 3.1 of arXiv 2502.19712; the wording is
Hone's own. Free search is zero-shot by design, so its pool is empty.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

EXAMPLES_SHOWN = 3


@dataclass(frozen=True)
class Style:
    """One row: what to ask for, how long the answer may be, and examples to draw from."""

    instruction: str
    max_words: int
    examples: tuple[str, ...] = ()


STYLES: dict[str, Style] = {
    "question": Style(
        "Write one question that a person without the document would ask, and that the document answers.",
        20,
        (
            "how long does a landlord have to return a security deposit after the lease ends",
            "Why does bread dough need a second rise before baking?",
            "What causes stall flutter in the blades of an axial compressor?",
            "can a child with a fever be given ibuprofen and paracetamol together",
            "Which glands secrete cortisol and what triggers its release?",
            "How do I undo the last commit without losing my changes?",
            "Who pays import duty when goods are shipped delivered-at-place?",
            "What led to the collapse of the Hanseatic League?",
            "How often should tyre pressure be checked on a motorhome?",
            "does homeowners insurance cover damage from a burst pipe",
            "Why do some stars end as neutron stars and others as black holes?",
            "How is goodwill tested for impairment under IFRS?",
            "When should tomato seedlings be moved outdoors?",
            "What personal data may an employer keep about former staff?",
            "How does a heat pump work when it is freezing outside?",
            "what is the offside rule in field hockey",
            "How do coral reefs protect a coastline from storms?",
        ),
    ),
    "claim": Style(
        "Write one factual claim that somebody might want to verify, and that the document supports or refutes.",
        20,
        (
            "Daily low-dose aspirin raises the risk of gastric bleeding in older adults.",
            "Glaciers in the Karakoram have lost less mass than those of the neighbouring Himalaya.",
            "A consumer may cancel an online purchase within fourteen days without giving a reason.",
            "Adding fly ash lowers the heat that concrete releases while it hardens.",
            "Bilingual children outperform monolingual children in task switching.",
            "The printing press reached Venice before it reached Paris.",
            "Python dictionaries keep their keys in insertion order.",
            "Loss of p53 function makes tumour cells resistant to radiotherapy.",
            "Raising the minimum wage reduces staff turnover in restaurants.",
            "Swept wings delay the onset of shock waves at transonic speed.",
            "Honeybee colonies collapse more often where neonicotinoids are sprayed.",
            "Index funds beat most actively managed funds over ten years.",
            "The company shares location data with advertisers unless the user opts out.",
            "Sourdough fermentation lowers the glycaemic response to wheat bread.",
            "Electric buses cost less to maintain than diesel buses.",
            "Sleep deprivation impairs the consolidation of spatial memory.",
        ),
    ),
    "title": Style(
        "Write a title under which the document's content could be published, specific enough to find it again.",
        20,
        (
            "Repairing Spalled Concrete in Post-War Parking Structures",
            "A Beginner's Guide to Pruning Espaliered Fruit Trees",
            "Deep-Sea Mining and the Law of the Sea",
            "Timing Attacks on Password Comparison and How to Avoid Them",
            "Monetary Policy in Small Open Economies after 2008",
            "Early Mobilisation after Hip Replacement: Outcomes at Six Months",
            "Running a Community Choir on a Small Budget",
            "Boundary-Layer Transition on Slender Cones at Hypersonic Speed",
            "Migrating a Monolith to Message Queues Step by Step",
            "The Role of Gut Bacteria in Preterm Infants",
            "Trade Routes of the Swahili Coast, 1100 to 1500",
            "What to Do When Your Flight Is Cancelled",
            "Cookies and Tracking Technologies We Use",
            "Low-Light Photography with Older Lenses",
            "Predicting Landslides from Satellite Radar",
            "Severance Pay and Notice Periods for Part-Time Staff",
        ),
    ),
    "keywords": Style(
        "Write up to five keywords or key phrases under which somebody would look for the document, "
        "separated by spaces and without commas.",
        12,
        (
            "roof truss snow load calculation",
            "gluten-free sourdough starter hydration",
            "mitral valve repair mortality",
            "GDPR data portability request",
            "asyncio task cancellation timeout",
            "supersonic inlet buzz",
            "chapter 11 creditor committee",
            "lithium battery thermal runaway",
            "Ottoman land tax registers",
            "soil salinity drip irrigation",
            "exoplanet transit photometry",
            "zebrafish heart regeneration",
            "marathon taper nutrition",
            "parental leave eligibility",
            "Bayesian adaptive trial design",
            "watercolour paper sizing",
        ),
    ),
    "web search": Style(
        "Write what somebody would type into a web search engine to find the document: short, plain, often lower case.",
        20,
        (
            "average cost to replace a boiler",
            "symptoms of low iron in teenagers",
            "what is a reverse mortgage",
            "python remove duplicates from list keep order",
            "how many cups in a litre",
            "best time to visit patagonia",
            "capital gains tax on inherited house",
            "definition of laminar flow",
            "is oat milk safe for dogs",
            "who wrote the magna carta",
            "delete my account and personal data",
            "why is my sourdough so dense",
            "side effects of stopping beta blockers",
            "speed of sound at altitude",
            "difference between alloy and composite",
            "how to file a complaint against an airline",
            "normal resting heart rate for athletes",
        ),
    ),
    "free search": Style(
        "Write one search query to which the document is the best answer, in whatever form suits the subject.", 20
    ),
}


def counts_of(known: Iterable[str], counts: dict[str, int]) -> dict[str, int]:
    """`counts` of queries by style, checked. Raises ValueError on an unknown style or a negative number."""
    if not set(counts) <= set(known) or any(count < 0 for count in counts.values()):
        raise ValueError(f"give a number for each style you want, of {', '.join(known)}")
    return counts


@dataclass(frozen=True)
class Request:
    """One question to a language model. What repeats comes first, so that servers may cache the document's prefix."""

    style: str
    doc: str
    examples: tuple[str, ...]

    def prompt(self, doc: str) -> str:
        """The user's turn of the chat; `doc` is the document as far as it fits."""
        row = STYLES[self.style]
        lines = [
            f"Document:\n{doc}\n",
            row.instruction,
            f"Use at most {row.max_words} words and the language of the document. It must make sense to a reader who "
            "does not see the document, so do not mention it, and do not copy long passages from it.",
        ]
        if self.examples:
            lines += ["Examples of the form, about other subjects:", *(f"- {example}" for example in self.examples)]
        return "\n".join([*lines, "Answer with that alone, on one line."])


def request(style: str, doc: str, seed: int, doc_id: str, number: int) -> Request:
    """The `number`-th request of a style for a document, with examples drawn by seed and document."""
    pool = STYLES[style].examples
    rng = Random(f"{seed}\0{doc_id}\0{style}\0{number}")
    return Request(style, doc, tuple(rng.sample(pool, min(EXAMPLES_SHOWN, len(pool)))))
