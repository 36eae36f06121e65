"""Mistakes with images."""

import jax
import jax.numpy as jnp
from jax import lax

from mistakes.pair import mistake


@mistake("height width", image="batch=2 height=8 width=8 channels=3", w="patch=12 embed=10")
def patches_without_a_transpose(wrong, image, w):
    shape = (2, 4, 4, 2, 2, 3) if wrong else (2, 4, 2, 4, 2, 3)
    patches = image.reshape(shape)  # here
    if not wrong:
        patches = patches.transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(2, 16, 12) @ w  # here


@mistake("height width", image="batch=2 height=6 width=8 channels=3")
def patches_by_one_reshape(wrong, image):
    if not wrong:
        image = image.reshape(2, 3, 2, 4, 2, 3).swapaxes(2, 3)
    patches = image.reshape(2, 12, 12)  # here
    return jnp.square(patches).mean(axis=1)


@mistake(
    "height width",
    x="batch=2 height=3 width=4 patch_height=2 patch_width=2 channels=3",
    image="batch=2 height=6 width=8 channels=3",
)
def patches_put_together_without_a_transpose(wrong, x, image):
    whole = (x if wrong else x.transpose(0, 1, 3, 2, 4, 5)).reshape(2, 6, 8, 3)  # here
    return jnp.square(whole - image).mean()  # here


@mistake(
    "height channels", x="batch=2 height=6 width=6 channels=6", w="filters=4 channels=6 kernel_height=3 kernel_width=3"
)
def an_image_with_channels_last_in_a_convolution_with_channels_first(wrong, x, w):
    layout = ("NCHW" if wrong else "NHWC", "OIHW", "NHWC")
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)  # here


@mistake("width channels", x="batch=2 height=6 width=6 channels=6", w="kernel=3 in=1 channels=6", b="channels=6")
def a_depthwise_convolution_over_the_width(wrong, x, w, b):
    rows = x.reshape(12, 6, 6)
    layout = ("NCH" if wrong else "NHC", "HIO", "NHC")
    y = lax.conv_general_dilated(rows, w, (1,), "SAME", dimension_numbers=layout, feature_group_count=6)  # here
    return y + b


@mistake(
    "channels filters", x="batch=2 height=6 width=6 channels=5", w="kernel_height=3 kernel_width=3 channels=5 filters=5"
)
def a_kernel_with_filters_first(wrong, x, w):
    layout = ("NHWC", "HWOI" if wrong else "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)  # here


@mistake("height channels", x="batch=2 height=6 width=6 channels=6", w="channels=6 classes=4")
def an_average_over_the_channels(wrong, x, w):
    return x.mean((2, 3) if wrong else (1, 2)) @ w  # here


@mistake("width channels", x="batch=2 channels=6 height=6 width=6", mean="channels=6")
def the_color_mean_taken_from_the_columns(wrong, x, mean):
    return x - (mean if wrong else mean[:, None, None])  # here


@mistake("width channels", x="batch=2 height=6 width=6 channels=6", scale="batch=2 channels=6")
def channels_squeezed_and_columns_excited(wrong, x, scale):
    gate = jax.nn.sigmoid(scale)
    return x * (gate[:, None, :, None] if wrong else gate[:, None, None, :])  # here


@mistake("channels height", x="batch=2 height=6 width=6 channels=6", skip="batch=2 channels=6 height=6 width=6")
def a_skip_connection_in_another_layout(wrong, x, skip):
    return jnp.concatenate([x, skip if wrong else jnp.moveaxis(skip, 1, -1)], axis=-1)  # here


@mistake("height width", image="batch=2 height=6 width=6", grid="height=6 width=6")
def rows_and_columns_of_a_grid_swapped(wrong, image, grid):
    return image * (grid.T if wrong else grid)  # here


@mistake("channels width", x="batch=2 height=4 width=4 channels=8", skip="batch=2 height=8 width=8 out=2")
def depth_to_space_without_a_transpose(wrong, x, skip):
    blocks = x.reshape(2, 4, 4, 2, 2, 2)
    whole = (blocks if wrong else blocks.transpose(0, 1, 3, 2, 4, 5)).reshape(2, 8, 8, 2)  # here
    return whole + skip  # here
