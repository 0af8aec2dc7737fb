from .teacher import Ensemble as Ensemble
from .teacher import ListScorer as ListScorer
from .teacher import Scorer as Scorer
from .teacher import divisions as divisions
from .teacher import scorer_of as scorer_of
