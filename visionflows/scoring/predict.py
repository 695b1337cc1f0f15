"""A few images, wherever each lies, answered one by one: fastai's learn.predict.

from visionflows.scoring.predict import predict
for row in predict(["a.jpg", "s3://inbox/b.jpg"], open_engine("pets", "store", settings)):
    print(row.name, row.status, row.probabilities)
"""

from collections.abc import Iterable, Iterator

from visionflows.inference.decoding import Row
from visionflows.inference.engine import Engine
from visionflows.storage import split_location


def predict(images: Iterable[str], engine: Engine) -> Iterator[Row]:
    """The row of each image, named as it was given, in order.

    What cannot be read is a row that says so. Raises PlaceError where a bucket cannot be used.
    """
    for image in images:
        where, name = split_location(image)
        for rows in engine.stream(where, [[name]]):
            yield from (row._replace(name=image) for row in rows)
