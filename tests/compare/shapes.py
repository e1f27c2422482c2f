"""Models of random weights, in the shapes that `cargo bench -p fedner-model` knows."""

import torch
from transformers import BertConfig, BertForTokenClassification

# Name: width, layers, attention heads.
SHAPES = {"minilm": (384, 6, 12), "bert-base": (768, 12, 12)}


def random_model(shape, tags, attention, **also):
    width, layers, heads = SHAPES[shape]
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=30522, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=512, num_labels=tags, **also,
    )
    config._attn_implementation = attention
    return BertForTokenClassification(config)
