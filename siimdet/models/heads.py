"""What classifiers put on a body. Shapes: features f32[B, F] to logits f32[B, K]."""

from torch import nn


def linear_head(features: int, *, num_classes: int) -> nn.Module:
    """One linear layer, as ResNeXt's own."""
    return nn.Linear(features, num_classes)


def study_head(features: int, *, num_classes: int, hidden: int, dropout: float) -> nn.Module:
    """Hidden layer, ReLU, dropout, logits; Xavier weights and zero biases (the report's study classifier)."""
    head = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes))
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return head
