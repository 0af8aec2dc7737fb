from .chat import open_tokenizer as open_tokenizer
from .chat import token_ends as token_ends
