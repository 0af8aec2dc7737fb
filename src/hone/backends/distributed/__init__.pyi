from .processes import count as count
from .processes import joined as joined
from .processes import rank as rank
from .processes import wait as wait
