"""Descriptions of the flows' parameters, which Prefect's run form shows."""

DATASET = (
    "Labelled images: a fastai name (PETS), an archive or folder (path, http(s):// or s3:// URI), "
    "or digits."
)
SHA256 = "Expected SHA-256 of the archive; empty to accept any."
LABELS = (
    "folder, uppercase, regex:PATTERN with one capture group, csv:PATH_OR_URI#PATH,LABEL (the "
    "columns, if they are not path and label), coco:PATH_OR_URI, voc:FOLDER_OR_URI, "
    "cvat:PATH_OR_URI, or keywords[:BRANCH]. uppercase:dog,cat names its classes."
)
LABEL_SEP = (
    "What parts the labels of an image, such as ; in a cell of the CSV. The model then gives an "
    "image any number of labels."
)
MULTI_LABEL = (
    "Whether the model gives an image any number of labels, or exactly one; by default as the "
    "source of the labels says."
)
MISSING = "What to do about images that a label file lists and the dataset lacks: error, or skip."
GROUP = (
    "Images to keep on one side of the split, such as those of a camera: folder, regex:PATTERN "
    "(its capture group, in the path), or column:NAME of the label CSV."
)
VALID_PCT = "Share of the images to validate on."
INT8 = "Also export an int8 network. Scoring uses it if its labels agree with float32."
CORRECTIONS = (
    "Files that review.html saved, or outputs that corrections were added to, such as that of the "
    "nightly scoring. A corrected label overrides the label rule."
)
CORRECTIONS_IN_VALIDATION = "Also validate on corrected images; by default all are trained on."
TRAINING = "Advanced: architecture, epochs, learning rate, augmentation, seed."
MODEL = "pets, pets@production, pets@VERSION, or the path or URI of a model artifact."
OUTPUT = "Folder or s3:// URI of the results; empty for a new folder in the store."
STORE = "Folder or s3:// URI of models, datasets and scores; empty for the worker's default."
