"""Fine-tunes the embedded miniature Stable Diffusion on a function, in half a minute on a CPU."""

from torch import Tensor
from torchvision.utils import save_image

import soc_ft


def redness(images: Tensor, prompts: list[str]) -> Tensor:
    """(B, 3, H, W) pictures in [0, 1] and B prompts -> (B,), higher is better."""
    red, green, blue = images.unbind(dim=1)
    return (red - (green + blue) / 2).mean(dim=(1, 2))


model = soc_ft.load_model("shapes", finetune="lora")
small = ["trainer.steps=8", "trainer.batch_size=4", "trainer.lr=1e-2", "trainer.warmup_steps=2"]
small += ["method.regression_steps=2", "method.prompt_dropout=0", "validation.prompts=4"]
settings = ["experiment=quickstart", "lambda=3000", "tracking=none", *small]
run = soc_ft.fine_tune(model, redness, *settings, run_dir="runs/red")
prompts = ["a small blue circle on a white background", "a large green square"]
pictures = soc_ft.sample(model, prompts, samples_per_prompt=4, num_steps=10)
save_image(pictures / 255, run.folder / "pictures.png", nrow=4)
print(soc_ft.evaluate(model, {"redness": redness}, prompts, num_steps=10))
