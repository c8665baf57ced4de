"""Attribution maps: which parts of an image a prediction rests on, with metrics of their faithfulness."""
