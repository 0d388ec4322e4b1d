from rscap.library import (
    compare as compare,
)
from rscap.library import (
    diagnose as diagnose,
)
from rscap.library import (
    evaluate as evaluate,
)
from rscap.library import (
    export as export,
)
from rscap.library import (
    load as load,
)
from rscap.library import (
    open_data as open_data,
)
from rscap.library import (
    plan as plan,
)
from rscap.library import (
    read_recipe as read_recipe,
)
from rscap.library import (
    report as report,
)
from rscap.library import (
    score as score,
)
from rscap.library import (
    train as train,
)

__version__: str
