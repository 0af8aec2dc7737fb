from .corpus import Corpus as Corpus
from .encoder import Encoder as Encoder
from .tokens import IDS as IDS
from .tokens import DocTokenizer as DocTokenizer
from .tokens import Tokens as Tokens
from .vectors import View as View
from .vectors import encode_by as encode_by
from .vectors import encode_docs as encode_docs
