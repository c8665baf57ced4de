"""Networks: timm backbones, the LightningModule around one, and saving and loading of models."""
