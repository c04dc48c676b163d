"""The networks behind the rewards. Their modules import torch; those of the rewards do not."""
