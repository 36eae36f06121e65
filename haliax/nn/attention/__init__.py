"""Attention: `attend`, with masks as data; the same written out with all its weights; masks and biases as arrays."""

from haliax.nn.attention.attend import attend as attend
from haliax.nn.attention.attention_mask import AttentionMask as AttentionMask
from haliax.nn.attention.dot_product import dot_product_attention as dot_product_attention
from haliax.nn.attention.dot_product import dot_product_attention_weights as dot_product_attention_weights
from haliax.nn.attention.masks import MASKED_SCORE as MASKED_SCORE
from haliax.nn.attention.masks import alibi_attention_bias as alibi_attention_bias
from haliax.nn.attention.masks import causal_mask as causal_mask
from haliax.nn.attention.masks import combine_masks_and as combine_masks_and
from haliax.nn.attention.masks import combine_masks_or as combine_masks_or
from haliax.nn.attention.masks import dropout_mask as dropout_mask
from haliax.nn.attention.masks import forgetful_causal_mask as forgetful_causal_mask
from haliax.nn.attention.masks import mask_to_bias as mask_to_bias
from haliax.nn.attention.masks import prefix_lm_mask as prefix_lm_mask
