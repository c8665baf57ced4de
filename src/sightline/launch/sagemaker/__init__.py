"""Jobs as training jobs of Amazon SageMaker; `as_model_trainer` gives AWS's own client the same job."""

from sightline.launch.sagemaker.model_trainer import as_model_trainer, provide

__all__ = ["as_model_trainer", "provide"]
