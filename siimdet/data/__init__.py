"""The data set on disk: manifest, COCO and YOLO views, splits, counts, phantoms and the training loader."""
