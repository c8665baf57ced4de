"""Knowledge distillation: learning from a teacher's answers (Hinton et al., arXiv:1503.02531)."""

import torch
from torch import nn

from sightline.errors import BadInput
from sightline.task_spec import TaskSpec


class Teacher:
    """A trained network that answers for each training image; no part of the student's weights or checkpoints."""

    def __init__(
        self, network: nn.Module, spec: TaskSpec, student: TaskSpec, *, weight: float, temperature: float
    ) -> None:
        """Raises: BadInput when it was trained on other classes, or images of other channels."""
        if set(spec.class_names) != set(student.class_names):
            theirs, ours = (
                f"{len(each.class_names)} ({', '.join(each.class_names[:3])} …)" for each in (spec, student)
            )
            raise BadInput(f"model.teacher: it knows {theirs} classes and the data has {ours}; name a run on this data")
        if spec.channels != student.channels:
            raise BadInput(
                f"model.teacher: it knows images of {spec.channels} channel(s) and the data has {student.channels} "
                "(data.channels); name a run on such images"
            )
        self.network = network.eval().requires_grad_(False)
        self.size = spec.image_size
        self.weight, self.temperature = weight, temperature
        self.order = torch.tensor([spec.class_names.index(name) for name in student.class_names])
        std = torch.tensor(spec.std)
        self.scale = (torch.tensor(student.std) / std).view(-1, 1, 1)
        self.shift = ((torch.tensor(student.mean) - torch.tensor(spec.mean)) / std).view(-1, 1, 1)

    def blend(self, loss: torch.Tensor, logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """The loss with a share of `weight` replaced by the distance from the teacher's answers."""
        cooled = self.temperature
        distance = nn.functional.kl_div(
            (logits.float() / cooled).log_softmax(1),
            (self.answers(images) / cooled).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return torch.lerp(loss.float(), distance * cooled**2, self.weight)

    @torch.no_grad()
    def answers(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(B, num_classes)` in the student's order for images as the student sees them."""
        self._move(images.device)
        images = images * self.scale + self.shift
        if images.shape[-1] != self.size:
            images = nn.functional.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        return self.network(images).float()[:, self.order]

    def _move(self, device: torch.device) -> None:
        if self.order.device != device:
            self.network.to(device)
            self.order, self.scale, self.shift = (each.to(device) for each in (self.order, self.scale, self.shift))
