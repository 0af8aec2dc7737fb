"""What a language model can be asked for: query styles as rows.

The six styles and the 3 examples shown of each follow section 3.1 of arXiv 2502.19712; the wording is Hone's own. Free
search is zero-shot by design, so its pool is empty.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field, model_validator

from hone.config import Settings
from hone.core.forms import Form
from hone.core.hashing import drawn

FEWEST_EXAMPLES = 3


class Style(Settings):
    """One kind of query."""

    instruction: str = Field(min_length=1)
    """What to ask for."""
    max_words: int = Field(default=20, ge=1)
    """Longer answers are dropped."""
    examples: tuple[str, ...] = ()
    """Queries of this style about many other subjects, of which a few are shown."""
    zero_shot: bool = False
    """Ask without examples."""
    form: Form = "any"
    """What answers must be: of keywords the commas are taken out and the first five kept; a statement or a title that
    is a question counts as one of the style asked for whose form is question, or is dropped where there is none."""

    @model_validator(mode="after")
    def _enough_examples(self) -> "Style":
        if not self.zero_shot and len(set(self.examples)) < FEWEST_EXAMPLES:
            raise ValueError(f"give a style at least {FEWEST_EXAMPLES} different examples, or zero_shot: true")
        return self


STYLES: dict[str, Style] = {
    "question": Style(
        instruction="Write one question that a person without the document would ask, and that the document answers.",
        form="question",
        max_words=20,
        examples=(
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
        instruction=(
            "State one specific finding or fact of the document in one full sentence, as somebody would put it who "
            "wants it checked."
        ),
        form="statement",
        max_words=20,
        examples=(
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
        instruction=(
            "Write a title under which the document's content could be published, specific enough to find it again."
        ),
        form="title",
        max_words=20,
        examples=(
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
        instruction="Write up to five keywords or key phrases under which somebody would look for the document, "
        "separated by spaces and without commas.",
        form="keywords",
        max_words=12,
        examples=(
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
        instruction=(
            "Write what somebody would type into a web search engine to find the document: short, plain, often "
            "lower case."
        ),
        max_words=20,
        examples=(
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
        instruction=(
            "Write one search query to which the document is the best answer, in whatever form suits the subject."
        ),
        zero_shot=True,
    ),
}


Counts = dict[str, Annotated[float, Field(ge=0)]]
"""How many queries of each style are asked of a document; 0.5 asks for one of every second document."""


def counts_of(known: Iterable[str], counts: Counts) -> Counts:
    """`counts`, checked. Raises ValueError on an unknown style."""
    if not set(counts) <= set(known):
        raise ValueError(f"give a number for each style you want, of {', '.join(known)}")
    return counts


def numbered(counts: Mapping[str, float], seed: int, doc_id: str) -> list[tuple[str, int]]:
    """The styles a document is asked for, each with a number from 0; half a query is asked of every second document."""
    wanted = ((style, int(count), count % 1) for style, count in counts.items())
    return [
        (style, number)
        for style, whole, rest in wanted
        for number in range(whole + (rest > 0 and drawn(seed, doc_id, style) < rest))
    ]
