from .teacher import Judge as Judge
from .teacher import ListJudge as ListJudge
from .teacher import judge_of as judge_of
