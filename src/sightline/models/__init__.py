"""Networks: timm backbones, the LightningModule around one, and the only loader of what was saved."""
