"""CamVid's class ids by name, as the simulator's ground truth uses them."""

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
CLASS_COUNT = 11
