"""The text formats of the field, read once for data and for scoring: one id an image through every door.

`find` recognises what a file or folder holds; its `read` yields rows, rejected rows and notes; `judged` turns a row
into an `Annotation` or says why it cannot be used. docs/formats.md shows every format.

| module | format |
|---|---|
| `tables` | captions.csv and other tables |
| `json_files` | Karpathy, lists by class or split, lists of records, `{id: captions}`, JSON Lines |
| `coco` | COCO annotations |
| `descriptions` | the text files of UCM-Captions, Sydney-Captions and RSICD |
| `conversations` | conversations and prefixes: what a record asks besides its caption |
| `image_folder` | metadata.jsonl or metadata.csv beside images |
| `parquet` | parquet, its text; the images are opened in `rscap.data` |
| `nearness` | how names that do not meet differ |
| `image_column` | which column of a table holds images |
| `shards` | tar files of WebDataset, their text; as with parquet, the images are opened in `rscap.data` |
| `fields` | which keys and columns are read in all of them |
"""

from rscap.annotations.nearness import Reading, nearest_reading
from rscap.annotations.opening import Annotations, find
from rscap.annotations.rows import (
    UNSPLIT,
    Annotation,
    AnnotationRow,
    Found,
    UnusableRowError,
    example_id,
    judged,
    split_name,
)
from rscap.annotations.text import folded, missing

__all__ = [
    "UNSPLIT",
    "Annotation",
    "AnnotationRow",
    "Annotations",
    "Found",
    "Reading",
    "UnusableRowError",
    "example_id",
    "find",
    "folded",
    "judged",
    "missing",
    "nearest_reading",
    "split_name",
]
